// Before and after EM: one broken picture, restored with the prior of each iteration.
lab.part("em", (lab) => {
  lab.figures.em = (figure, again) => {
    const crew = lab.crew(), side = lab.side;
    let bench = null, truth = lab.heldOut[0];
    const say = (...words) => bench?.say(...words);

    const share = lab.dial("hidden", { min: 0.2, max: 0.9, step: 0.1, value: 0.6, says: (v) => `${Math.round(100 * v)} %` }, () => breakIt());
    const steps = lab.dial("steps", { min: 4, max: 25, value: 12 });
    const seed = lab.dial("seed", { min: 0, max: 99, value: 0 }, () => breakIt());
    const screens = { y: lab.screen("broken", side), now: lab.screen("restored", side), truth: lab.screen("truth", side) };
    const row = lab.make("div", { class: "emlib-lab-row emlib-lab-large" }, ...Object.values(screens).map((s) => s.box));
    const each = lab.PRIORS.map(([, words]) => lab.screen(words, side));
    const crowd = lab.make("div", { class: "emlib-lab-row" }, ...each.map((screen) => screen.box));
    const replay = lab.replay((i) => screens.now.show(replay.steps[i].x, lab.decibels(replay.steps[i].x, truth)));
    let broken = null;

    function breakIt() {
      const seen = lab.randomMask(share.value, seed.value);
      const mask = truth.map((_, i) => (seen(i % side, Math.floor(i / side)) ? 1 : 0));
      broken = lab.measured(truth, mask, 0, seed.value);
      screens.y.show(broken.y, lab.decibels(broken.y, truth));
      screens.truth.show(truth);
      replay.clear();
    }

    async function go() {
      breakIt();
      const total = steps.value, task = broken, shown = truth, begin = performance.now();
      for (const [i, [prior, words]] of lab.PRIORS.entries()) {
        say(`Reading the prior "${words}" (2 MB) …`, i / lab.PRIORS.length);
        await crew.need(prior);
        let step = 0, last = null;
        const job = { sampler: "mmps", prior, broken: task, steps: total, seed: seed.value };
        const whole = await crew.start(job, ({ x, guess }) => {
          last = x;
          step += 1;
          each[i].show(guess, lab.decibels(guess, shown));
          say(`Prior "${words}": step ${step} of ${total} …`, (i + step / total) / lab.PRIORS.length);
        });
        if (!whole || task !== broken) return say("Stopped.");
        replay.add({ says: words, x: last }, true);
      }
      const took = (performance.now() - begin) / 1000;
      say(`Done in ${took.toFixed(1)} s. The slider goes from the first prior to the one that saw clean pictures.`);
    }

    bench = lab.bench(figure, {
      setting: [
        lab.pickPicture((x) => { truth = x; breakIt(); }),
        lab.make("div", { class: "emlib-lab-dials" }, share.box, steps.box, seed.box),
      ],
      actions: lab.runner("Restore with every prior", go, crew.stop, say),
      results: [row, replay.box, crowd], close: crew.close,
    }, again);
    breakIt();
    say("One mask and one seed of noise for all priors: what differs is the prior.");
  };
});
