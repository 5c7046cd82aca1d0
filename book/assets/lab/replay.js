// What a walk left at each step, behind one slider.
lab.part("replay", (lab) => {
  // show(i) draws step i; the slider follows the walk while it runs, and the reader afterwards.
  lab.replay = (show) => {
    const steps = [];
    const dial = lab.dial("step", { min: 0, max: 0, value: 0, says: (i) => (steps[i] ? steps[i].says : "none yet") }, (i) => show(i));
    dial.box.hidden = true;
    return {
      box: dial.box, steps,
      clear() { steps.length = 0; dial.box.hidden = true; },
      add(step) {
        steps.push(step);
        dial.box.hidden = false;
        dial.set(steps.length - 1, steps.length - 1);
        show(steps.length - 1);
      },
      // A step that was there before has changed, as when another draw has come to it.
      look(i) { dial.set(i); show(i); },
    };
  };

  // Mean of some pictures, and their standard deviation scaled to show: black where they agree, white at 1 and more.
  lab.spread = (pictures) => {
    const mean = pictures[0].map((_, i) => pictures.reduce((sum, x) => sum + x[i], 0) / pictures.length);
    const std = mean.map((m, i) => Math.sqrt(pictures.reduce((sum, x) => sum + (x[i] - m) ** 2, 0) / (pictures.length - 1)));
    return { mean, std };
  };
});
