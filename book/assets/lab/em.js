// Before and after EM: one broken picture, restored with the prior of each iteration.
lab.part("em", (lab) => {
  lab.figures.em = (figure, again) => {
    const crew = lab.crew(), side = lab.side;
    let bench = null, truth = lab.heldOut[0];
    const say = (...words) => bench?.say(...words);

    const share = lab.dial("hidden", { min: 0.2, max: 0.9, step: 0.1, value: 0.6, says: (v) => `${Math.round(100 * v)} %` }, () => anew());
    const steps = lab.dial("steps", { min: 4, max: 25, value: 12 });
    const seed = lab.dial("seed", { min: 0, max: 99, value: 0 }, () => anew());
    const many = lab.choice("pictures", [["one", "this one"], ["all", "all twelve, for their mean"]], "one");
    const screens = { y: lab.screen("broken", side), now: lab.screen("restored", side), truth: lab.screen("truth", side) };
    const row = lab.make("div", { class: "emlib-lab-row emlib-lab-large" }, ...Object.values(screens).map((s) => s.box));
    const each = lab.PRIORS.map(([, words]) => lab.screen(words, side));
    const crowd = lab.make("div", { class: "emlib-lab-row" }, ...each.map((screen) => screen.box));
    const replay = lab.replay((i) => screens.now.show(replay.steps[i].x, replay.steps[i].scores), "prior");

    function broken(x) {
      const seen = lab.randomMask(share.value, seed.value);
      return lab.measured(x, x.map((_, i) => (seen(i % side, Math.floor(i / side)) ? 1 : 0)), 0, seed.value);
    }

    function anew() {
      const { y } = broken(truth);
      screens.y.show(y, lab.decibels(y, truth));
      screens.truth.show(truth);
      replay.clear();
    }

    // One picture by one prior; undefined if the reader stops it.
    async function restored(prior, x, total, onStep) {
      let last;
      const job = { sampler: "mmps", prior, broken: broken(x), steps: total, seed: seed.value };
      const whole = await crew.start(job, (step) => { last = step; onStep(step); });
      return whole ? last.x : undefined;
    }

    async function go() {
      anew();
      const total = steps.value, shown = truth, begin = performance.now();
      const others = many.value === "all" ? lab.heldOut.filter((x) => x !== shown) : [];
      const calls = lab.PRIORS.length * (1 + others.length) * total;
      let done = 0;
      for (const [i, [prior, words]] of lab.PRIORS.entries()) {
        say(`reading the prior "${words}" (2 MB) …`, done / calls);
        await crew.need(prior);
        const tell = () => say(`prior "${words}" …`, ++done / calls);
        const x = await restored(prior, shown, total, ({ guess }) => { each[i].show(guess, lab.decibels(guess, shown)); tell(); });
        if (!x) return say("Stopped.");
        const all = [lab.psnr(x, shown)];
        for (const other of others) {
          const found = await restored(prior, other, total, tell);
          if (!found) return say("Stopped.");
          all.push(lab.psnr(found, other));
        }
        const mean = others.length ? `; mean of ${all.length}: ${(all.reduce((p, q) => p + q) / all.length).toFixed(1)} dB` : "";
        const scores = lab.decibels(x, shown) + mean;
        each[i].show(x, scores);
        replay.add({ says: words, x, scores }, true);
      }
      const took = (performance.now() - begin) / 1000;
      say(`Done in ${took.toFixed(1)} s. The slider goes from the first prior to the one that saw clean pictures. ` +
        "One draw of one picture is luck by half a decibel and more: means tell.");
    }

    bench = lab.bench(figure, {
      setting: [
        lab.pickPicture((x) => { truth = x; anew(); }),
        lab.make("div", { class: "emlib-lab-dials" }, share.box, steps.box, seed.box, many.box),
      ],
      actions: lab.runner("Restore with every prior", go, crew.stop, say),
      results: [row, replay.box, crowd], close: crew.close,
    }, again);
    anew();
    say("One mask and one seed of noise for all priors: what differs is the prior.");
  };
});
