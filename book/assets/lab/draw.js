// Draw: the same noise, walked back by the first prior and by the one after EM.
lab.part("draw", (lab) => {
  const PAIR = [["em0", "first prior: 50 clean pictures"], ["em3", "after EM on broken ones"], ["clean", "trained on 8,500 clean ones"]];

  lab.figures.draw = (figure, again) => {
    const crew = lab.crew(), side = lab.side;
    let bench = null;
    const say = (...words) => bench?.say(...words);

    const seed = lab.dial("seed", { min: 0, max: 99, value: 0 });
    const steps = lab.dial("steps", { min: 2, max: 50, value: 12 });
    const fresh = lab.dial("fresh noise η", { min: 0, max: 1, step: 0.25, value: 0, says: (v) => v.toFixed(2) });
    const noisy = PAIR.map(() => lab.screen("x_t", side)), guesses = PAIR.map(([, words]) => lab.screen(words, side));
    const rows = [guesses, noisy].map((screens) => lab.make("div", { class: "emlib-lab-row emlib-lab-large" }, ...screens.map((s) => s.box)));
    const replay = lab.replay((i) => replay.steps[i].pictures.forEach(({ x, guess }, j) => {
      noisy[j].show(x);
      guesses[j].show(guess, "its guess of the picture");
    }));

    async function go() {
      const total = steps.value;
      replay.clear();
      for (const [i, [prior, words]] of PAIR.entries()) {
        say(`Reading the prior "${words}" (2 MB) …`, i / PAIR.length);
        await crew.need(prior);
        let step = 0;
        const job = { sampler: "prior", prior, side, steps: total, eta: fresh.value, seed: seed.value };
        const whole = await crew.start(job, ({ t, x, guess }) => {
          const says = `${step + 1} of ${total}: ${t < 0 ? "the picture" : `t = ${t}`}`;
          if (i === 0) replay.add({ says, pictures: [{ x, guess }] }, t < 0);
          else {
            replay.steps[step].pictures.push({ x, guess });
            replay.look(step, t < 0);
          }
          step += 1;
          say(`${words}: step ${step} of ${total} …`, (i + step / total) / PAIR.length);
        });
        if (!whole) return say("Stopped.");
      }
      say("Done. The slider goes back through the steps; another seed is another picture.");
    }

    bench = lab.bench(figure, {
      setting: [lab.make("div", { class: "emlib-lab-dials" }, seed.box, steps.box, fresh.box)],
      actions: lab.runner("Draw", go, crew.stop, say), results: [...rows, replay.box], close: crew.close,
    }, again);
    say("All three walk back from the same noise.");
  };
});
