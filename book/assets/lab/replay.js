// What a walk left at each step, behind one slider.
lab.part("replay", (lab) => {
  // show(i) draws step i; the slider follows the walk while it runs, and the reader afterwards. Who asked their system
  // for less motion sees the last step of a walk alone.
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  lab.replay = (show, label = "step") => {
    const steps = [];
    const dial = lab.dial(label, { min: 0, max: 0, value: 0, says: (i) => (steps[i] ? steps[i].says : "none yet") }, (i) => show(i));
    dial.box.hidden = true;
    return {
      box: dial.box, steps,
      clear() { steps.length = 0; dial.box.hidden = true; },
      // Another step, `last` if the walk ends with it.
      add(step, last) {
        steps.push(step);
        dial.box.hidden = false;
        this.look(steps.length - 1, last);
      },
      // A step has come, or has changed, as when another draw has come to it.
      look(i, last) {
        if (calm.matches && !last) return;
        dial.set(i, steps.length - 1);
        show(i);
      },
    };
  };

  // Mean of some pictures, and their standard deviation scaled to show: black where they agree, white at 1 and more.
  lab.spread = (pictures) => {
    const mean = pictures[0].map((_, i) => pictures.reduce((sum, x) => sum + x[i], 0) / pictures.length);
    const std = mean.map((m, i) => Math.sqrt(pictures.reduce((sum, x) => sum + (x[i] - m) ** 2, 0) / (pictures.length - 1)));
    return { mean, std };
  };
});
