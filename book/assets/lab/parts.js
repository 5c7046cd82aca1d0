// The laboratory is made of parts, each a script that says `lab.part(name, make)`.
//
// A page that was opened from its file may load scripts, but neither modules nor a worker's script. So each part is a
// function: the page calls it, and a worker is made of the text of the same functions (see crew.js).
globalThis.lab = globalThis.lab ?? { made: new Map() };

lab.part = (name, make) => {
  lab.made.set(name, make);
  make(lab);
};
