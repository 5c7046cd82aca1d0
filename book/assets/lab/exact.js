// A world of fifty pictures: the exact posterior of what a noisy picture with holes may have been, with no network.
lab.part("exact", (lab) => {
  // w_i ~ exp(-||m (x_t - alpha_t c_i)||^2 / (2 sigma_t^2)), the sum over the pixels that are seen, and sum_i w_i c_i
  lab.exactPosterior = (x, t, mask, world) => {
    const a = lab.alpha(t), variance = lab.sigma(t) ** 2;
    const logs = world.map((c) => -x.reduce((sum, v, i) => sum + mask[i] * (v - a * c[i]) ** 2, 0) / (2 * variance));
    const most = Math.max(...logs), raw = logs.map((l) => Math.exp(l - most)), total = raw.reduce((p, q) => p + q);
    const weights = raw.map((w) => w / total);
    const guess = x.map((_, i) => world.reduce((sum, c, k) => sum + weights[k] * c[i], 0));
    return { weights, guess };
  };

  lab.figures.exact = (figure, again) => {
    const side = lab.side, LIKELY = 5;
    const wide = lab.dial("brush width", { min: 0, max: 4, value: 2, says: (r) => `${2 * r + 1} pixels` });
    const t = lab.dial("time t", { min: 0, max: 999, value: 600 }, () => tell());
    const seed = lab.dial("seed", { min: 0, max: 99, value: 0 }, () => tell());
    const stranger = lab.choice("picture", [["world", "one of the fifty"], ["stranger", "one that is not"]], "world", () => pick());
    const which = lab.dial("number", { min: 1, max: 50, value: 1 }, () => pick());
    const paint = lab.canvasToPaint(side, () => ({ radius: wide.value, hides: true }), () => tell());
    const screens = ["x_t", "exact guess", "truth"].map((name) => lab.screen(name, side));
    const likely = Array.from({ length: LIKELY }, (_, i) => lab.screen(`likely ${i + 1}`, side));
    let bench = null;

    function tell() {
      if (!bench) return;
      const { truth, mask } = paint.state, noise = lab.normal(seed.value)(truth.length);
      // x_t = alpha_t x_0 + sigma_t eps
      const x = truth.map((v, i) => lab.alpha(t.value) * v + lab.sigma(t.value) * noise[i]);
      const { weights, guess } = lab.exactPosterior(x, t.value, mask, lab.clean);
      screens[0].show(x.map((v, i) => mask[i] * v));
      screens[1].show(guess, lab.decibels(guess, truth));
      screens[2].show(truth);
      const order = weights.map((_, i) => i).sort((i, j) => weights[j] - weights[i]).slice(0, LIKELY);
      order.forEach((i, place) => likely[place].show(lab.clean[i], `${(100 * weights[i]).toFixed(1)} %`));
      const many = 1 / weights.reduce((sum, w) => sum + w * w, 0);
      bench.say(`As if ${many.toFixed(1)} of the fifty pictures were equally likely; the likeliest has ${(100 * weights[order[0]]).toFixed(1)} %.`);
    }
    function pick() {
      const from = stranger.value === "world" ? lab.clean : lab.heldOut;
      which.set(Math.min(which.value, from.length), from.length);
      paint.set({ truth: from[which.value - 1] });
    }

    const dials = [stranger, which, t, seed, wide].map((control) => control.box);
    bench = lab.bench(figure, {
      setting: [lab.make("div", { class: "emlib-lab-painting" }, paint.canvas), lab.make("div", { class: "emlib-lab-dials" }, ...dials)],
      actions: [
        lab.button("Hide the lower half", () => paint.set({ seen: (_, y) => y < side / 2 })),
        lab.button("Hide nothing", () => paint.set({ seen: () => true })),
      ],
      results: [screens, likely].map((row) => lab.make("div", { class: "emlib-lab-row" }, ...row.map((screen) => screen.box))),
      close: () => {},
    }, again);
    pick();
  };
});
