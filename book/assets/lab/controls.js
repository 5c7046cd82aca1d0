// The pieces that figures are put together from: labelled dials, choices, buttons, and screens that show pictures.
lab.part("controls", (lab) => {
  let made = 0;

  // An element with attributes and children; a function among the attributes is a listener.
  lab.make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === "function") element.addEventListener(name, value);
      else if (value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children);
    return element;
  };

  // A slider with its label and its value in words; `element.value` is a number.
  lab.dial = (label, { min, max, step = 1, value, says = String }, onInput = () => {}) => {
    const id = `lab-${++made}`;
    const heard = lab.make("output", { for: id });
    const input = lab.make("input", { id, type: "range", min, max, step, value, autocomplete: "off" });
    const tell = () => {
      heard.textContent = says(Number(input.value));
      input.setAttribute("aria-valuetext", heard.textContent);
    };
    input.addEventListener("input", () => { tell(); onInput(Number(input.value)); });
    tell();
    const box = lab.make("div", { class: "emlib-lab-dial" }, lab.make("label", { for: id }, label), input, heard);
    return {
      box,
      get value() { return Number(input.value); },
      // Moves the slider; a new end may come with it.
      set(now, end = input.max) { input.max = end; input.value = now; tell(); },
    };
  };

  // One of several, [[value, words], ...].
  lab.choice = (label, options, value, onChange = () => {}) => {
    const id = `lab-${++made}`;
    const select = lab.make("select", { id, autocomplete: "off", change: () => onChange(select.value) });
    select.append(...options.map(([key, words]) => lab.make("option", { value: key, selected: key === value }, words)));
    const box = lab.make("div", { class: "emlib-lab-dial" }, lab.make("label", { for: id }, label), select);
    return { box, get value() { return select.value; } };
  };

  lab.button = (words, click) => lab.make("button", { type: "button", click }, words);

  // A picture with words below it: show(x, words) draws values on [-1, 1].
  lab.screen = (name, side) => {
    const canvas = lab.make("canvas", { width: side, height: side, role: "img", "aria-label": `${name}: nothing yet` });
    const words = lab.make("figcaption", {}, name);
    const box = lab.make("figure", { class: "emlib-lab-screen" }, canvas, words);
    return {
      box,
      show(x, said = "") {
        lab.paintPixels(canvas, x);
        words.replaceChildren(name, lab.make("span", {}, said));
        canvas.setAttribute("aria-label", `${name} ${said}`);
      },
    };
  };

  // Greys of values on [-1, 1]; where `mask` is 0 a pixel is drawn as hidden, in the colour of rust.
  lab.paintPixels = (canvas, x, mask) => {
    const image = new ImageData(canvas.width, canvas.height);
    for (let i = 0; i < x.length; i++) {
      const grey = Math.round(Math.max(0, Math.min(1, (x[i] + 1) / 2)) * 255);
      image.data.set(mask && !mask[i] ? [154, 68, 40, 255] : [grey, grey, grey, 255], 4 * i);
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
  };

  // 10 log10(4 / mean squared error), as emlib.psnr, of x clipped to [-1, 1].
  lab.psnr = (x, truth) => {
    const error = x.reduce((sum, v, i) => sum + (Math.max(-1, Math.min(1, v)) - truth[i]) ** 2, 0) / x.length;
    return 10 * Math.log10(4 / Math.max(error, 1e-12));
  };
  lab.decibels = (x, truth) => `${lab.psnr(x, truth).toFixed(1)} dB`;

  // The frame of a figure: what is set up, what can be done, how far it is, and what comes out; `close` gives all back.
  lab.bench = (figure, { setting, actions, results, close }, again) => {
    const status = lab.make("p", { role: "status" });
    const progress = lab.make("progress", { max: 1, value: 0, "aria-label": "how far it is" });
    const far = lab.make("span"), bar = lab.make("p", { class: "emlib-lab-progress", hidden: true }, progress, far);
    const shut = lab.button("Close and free the memory", () => { close(); box.remove(); again().focus(); });
    const box = lab.make(
      "div", { class: "emlib-lab-bench", role: "group", "aria-label": "Laboratory", tabindex: -1 },
      lab.make("div", { class: "emlib-lab-setting" }, ...setting),
      lab.make("div", { class: "emlib-lab-actions" }, ...actions, shut), bar, status,
      lab.make("div", { class: "emlib-lab-results" }, ...results),
    );
    (figure.querySelector(".emlib-lab-still") ?? figure).after(box);
    box.focus({ preventScroll: true });
    return {
      box,
      // What is read aloud; with a share done it is what a glance tells, and not read at each step.
      say(words, share = null) {
        bar.hidden = share === null;
        if (share === null) status.textContent = words;
        else [far.textContent, progress.value] = [words, share];
      },
    };
  };

  // Two buttons of which one can be pressed: `go` while nothing runs, `stop` while it does; what fails is said.
  lab.runner = (words, go, stop, say) => {
    const stopping = lab.button("Stop", stop);
    const starting = lab.button(words, async () => {
      starting.disabled = true;
      stopping.disabled = false;
      try {
        await go();
      } catch (error) {
        say(`It did not work: ${error.message}`);
      } finally {
        starting.disabled = false;
        stopping.disabled = true;
      }
    });
    starting.className = "emlib-lab-go";
    stopping.disabled = true;
    return [starting, stopping];
  };
});
