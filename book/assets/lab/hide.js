// Hide and restore: the reader paints over a picture, and a prior and a sampler say what may have been there.
lab.part("hide", (lab) => {
  const SAMPLERS = [["mmps", "MMPS"], ["dps", "DPS"], ["diffpir", "DiffPIR"]];
  lab.PRIORS = [
    ["em0", "first prior: 50 clean pictures"], ["em1", "after EM 1"], ["em2", "after EM 2"], ["em3", "after EM 3"],
    ["clean", "trained on 8,500 clean pictures"],
  ];

  lab.figures.hide = (figure, again) => {
    const crew = lab.crew(), side = lab.side;
    let bench = null;
    const say = (...words) => bench?.say(...words);

    // ---- what is set up ----
    const way = lab.choice("brush", [["hide", "hides"], ["show", "shows again"]], "hide");
    const wide = lab.dial("brush width", { min: 0, max: 4, value: 1, says: (r) => `${2 * r + 1} pixels` });
    const share = lab.make("p", { class: "emlib-lab-share" });
    const paint = lab.canvasToPaint(side, () => ({ radius: wide.value, hides: way.value === "hide" }), () => {
      const hidden = paint.state.mask.filter((m) => !m).length / side ** 2;
      share.textContent = `${Math.round(100 * hidden)} % of the pixels are hidden`;
    });
    const holes = (words, seen) => lab.button(words, () => paint.set({ seen: seen() }));
    const inside = (i) => i > side / 4 && i < (3 * side) / 4;
    const quick = lab.make(
      "div", { class: "emlib-lab-actions" },
      holes("60 % at random", () => lab.randomMask(0.6, seed.value)),
      holes("the middle", () => (x, y) => !(inside(x) && inside(y))),
      holes("the lower half", () => (_, y) => y < side / 2),
      holes("nothing", () => () => true),
    );
    const prior = lab.choice("prior", lab.PRIORS, figure.dataset.prior ?? "em3");
    const sampler = lab.choice("sampler", SAMPLERS, figure.dataset.sampler ?? "mmps", () => fit());
    const steps = lab.dial("steps", { min: 4, max: 50, value: 12 });
    const scale = lab.dial("push λ", { min: -2, max: 4, step: 0.5, value: 1, says: (p) => (2 ** p).toPrecision(2) });
    const noise = lab.dial("noise", { min: 0, max: 0.5, step: 0.05, value: 0, says: (v) => v.toFixed(2) });
    const draws = lab.dial("draws", { min: 1, max: 6, value: 3 });
    const seed = lab.dial("seed", { min: 0, max: 99, value: 0 });
    const fit = () => { scale.box.hidden = sampler.value !== "dps"; };
    fit();

    // ---- what comes out ----
    const screens = {
      y: lab.screen("y", side), x: lab.screen("x_t", side), guess: lab.screen("guess", side), truth: lab.screen("truth", side),
    };
    const row = lab.make("div", { class: "emlib-lab-row" }), crowd = lab.make("div", { class: "emlib-lab-row" });
    row.append(...Object.values(screens).map((screen) => screen.box));
    let truth = null, broken = null, many = [];
    const replay = lab.replay((i) => {
      const { pictures, x } = replay.steps[i];
      screens.x.show(x, lab.decibels(x, truth));
      screens.guess.show(pictures[0], lab.decibels(pictures[0], truth));
      pictures.forEach((guess, j) => many[j].show(guess, lab.decibels(guess, truth)));
      if (pictures.length < 2) return;
      const { mean, std } = lab.spread(pictures);
      many.at(-2).show(mean, lab.decibels(mean, truth));
      many.at(-1).show(std.map((v) => Math.min(2 * v, 2) - 1), `up to ${Math.max(...std).toFixed(2)}`);
    });

    async function go() {
      const total = steps.value, count = draws.value, begin = performance.now();
      truth = paint.state.truth;
      broken = lab.measured(truth, paint.state.mask, noise.value, seed.value);
      say("Reading the prior (2 MB) …", 0);
      await crew.need(prior.value);
      replay.clear();
      many = Array.from({ length: count }, (_, i) => lab.screen(`draw ${i + 1}`, side));
      if (count > 1) many.push(lab.screen("their mean", side), lab.screen("their spread", side));
      crowd.replaceChildren(...many.map((screen) => screen.box));
      screens.y.show(broken.y, lab.decibels(broken.y, truth));
      screens.truth.show(truth);
      const job = { sampler: sampler.value, prior: prior.value, broken, steps: total, scale: 2 ** scale.value };
      for (let draw = 0; draw < count; draw++) {
        let step = 0;
        const whole = await crew.start({ ...job, seed: 1000 * seed.value + draw }, ({ t, x, guess }) => {
          const at = t < 0 ? "the picture" : `t = ${t}`;
          if (draw === 0) replay.add({ says: `${step + 1} of ${total}: ${at}`, x, pictures: [guess] }, t < 0);
          else {
            replay.steps[step].pictures.push(guess);
            replay.look(step, t < 0);
          }
          step += 1;
          say(`draw ${draw + 1} of ${count}, step ${step} of ${total} …`, (draw * total + step) / (count * total));
        });
        if (!whole) return say("Stopped.");
      }
      const took = (performance.now() - begin) / 1000;
      const last = replay.steps.at(-1).pictures.map((x) => lab.decibels(x, truth)).join(", ");
      say(`Done in ${took.toFixed(1)} s. PSNR: ${last}; of the observed picture: ${lab.decibels(broken.y, truth)}.`);
    }

    const own = lab.ownPicture((x) => paint.set({ truth: x }), (words) => say(words));
    const buttons = lab.runner("Restore", go, crew.stop, (words) => say(words));
    const painting = lab.make("div", { class: "emlib-lab-painting" }, paint.canvas, share, quick);
    const dials = lab.make("div", { class: "emlib-lab-dials" },
      ...[way, wide, prior, sampler, steps, scale, noise, draws, seed].map((control) => control.box));
    bench = lab.bench(figure, {
      setting: [lab.pickPicture((x) => paint.set({ truth: x })), own, painting, dials],
      actions: buttons, results: [row, replay.box, crowd], close: crew.close,
    }, again);
    paint.set({ truth: lab.heldOut[0], seen: lab.randomMask(0.6, 0) });
    say("Paint on the picture, then restore it.");
  };
});
