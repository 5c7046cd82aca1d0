// The laboratory: figures in which the reader breaks pictures and a prior restores them, here in the page.
//
// It is made of parts, each a script that says `lab.part(name, make)`. A page that was opened from its file may load
// scripts, but neither modules nor a worker's script nor data. So each part is a function: the page calls it, and a worker
// is made of the text of the same functions (crew.js); weights are text in a script too (weights.js).
// A page without a click loads this file alone, and shows the still picture that is there without any script.
globalThis.lab = { made: new Map(), figures: {}, folder: new URL(".", document.currentScript.src).href };

lab.part = (name, make) => {
  lab.made.set(name, make);
  try {
    make(lab);
  } catch (error) {
    lab.flaw ??= error; // a script cannot fail for who waits for it, so `lab.load` looks here
  }
};

lab.load = (file) =>
  new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = lab.folder + file;
    script.onload = () => { script.remove(); if (lab.flaw) failed(lab.flaw); else done(); };
    script.onerror = () => { script.remove(); failed(new Error(`The file ${file} could not be loaded.`)); };
    document.head.append(script);
  });

lab.PARTS = ["kernel", "product", "layers", "attention", "network", "weights", "schedule", "samplers", "random", "worker"];
lab.TOOLS = ["crew", "controls", "broken", "pictures", "paint", "replay", "hide", "em", "draw", "exact"];

// All parts, one after the other, once.
lab.ready = () =>
  (lab.whenReady ??= [...lab.PARTS, ...lab.TOOLS].reduce(
    (before, part) => before.then(() => lab.load(`${part}.js`)),
    Promise.resolve(),
  ));

// A figure <figure class="emlib-lab" data-lab="hide"> holds its still picture; a button opens the bench below it.
lab.offer = (figure) => {
  const open = document.createElement("button"), status = document.createElement("p");
  open.type = "button";
  open.className = "emlib-lab-open";
  open.textContent = figure.dataset.open ?? "Try it here";
  status.setAttribute("role", "status");
  open.addEventListener("click", async () => {
    open.disabled = true;
    status.textContent = "Setting up …";
    try {
      await lab.ready();
      status.remove();
      open.remove();
      lab.figures[figure.dataset.lab](figure, () => lab.offer(figure));
    } catch (error) {
      open.disabled = false;
      status.textContent = error.message;
    }
  });
  const sheet = figure.querySelector(".emlib-lab-still") ?? figure;
  sheet.after(open, status);
  return open;
};

{
  const style = document.createElement("link");
  style.rel = "stylesheet";
  style.href = `${lab.folder}lab.css`;
  document.head.append(style);
  document.querySelectorAll(".emlib-lab[data-lab]").forEach((figure) => lab.offer(figure));
}
