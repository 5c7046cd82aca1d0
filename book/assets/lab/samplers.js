// The samplers of emlib/diffusion.py and emlib/posterior/, for one picture with hidden pixels.
//
// Each is a generator that yields { t, x, guess } after each network call, so that whoever watches can draw or stop.
// model: (map, t) -> [eps, back]; broken: { y, mask, noiseStd, side }, y and mask as Float32Arrays, 1 where a pixel is
// seen; normal: (n) -> n standard normal numbers.
lab.part("samplers", (lab) => {
  const GRID_POWER = 1.5, PIXEL_VARIANCE = 0.3, FLOOR = 1e-5; // as in emlib/posterior
  const clamp = (x) => x.map((v) => Math.max(-1, Math.min(1, v)));
  const dot = (a, b) => a.reduce((sum, v, i) => sum + v * b[i], 0);

  // The guess, and a function v -> J^T v, J = d x0_hat / d x_t.
  function denoise(model, x, t, side) {
    const [eps, back] = model({ c: 1, h: side, w: side, x }, t);
    // x0_hat = (x_t - sigma_t eps) / alpha_t, so J^T v = (v - sigma_t (d eps / d x_t)^T v) / alpha_t
    return [lab.predictX0(x, eps.x, t), (v) => lab.predictX0(v, back(v), t)];
  }

  function* walk(steps, power, pixels, normal, step) {
    const grid = lab.timeGrid(steps, power);
    let x = normal(pixels);
    for (let i = 0; i < steps; i++) {
      const [t, s] = [grid[i], grid[i + 1]];
      const [next, guess] = step(x, t, s);
      x = next;
      yield { t: s, x, guess };
    }
  }

  // The prior alone: DDIM for eta = 0.
  lab.sample = (model, side, normal, steps, eta = 0) =>
    walk(steps, 1, side * side, normal, (x, t, s) => {
      const guess = clamp(denoise(model, x, t, side)[0]);
      const noise = eta > 0 && s >= 0 ? normal(x.length) : new Float32Array(x.length);
      return [lab.reverseStep(x, guess, t, s, eta, noise), guess];
    });

  // A step of the prior, then a push downhill on || y - A x0_hat ||.
  lab.dps = (model, { y, mask, side }, normal, steps, scale) =>
    walk(steps, GRID_POWER, y.length, normal, (x, t, s) => {
      const [free, slope] = denoise(model, x, t, side);
      const guess = clamp(free);
      const gap = y.map((v, i) => v - mask[i] * guess[i]);
      const r = Math.sqrt(dot(gap, gap));
      // d r / d x0_hat = -A^T (y - A x0_hat) / r, and nothing where x0_hat was clamped
      const g = slope(gap.map((v, i) => (guess[i] === free[i] && r > 0 ? (-mask[i] * v) / r : 0)));
      const step = lab.reverseStep(x, guess, t, s, 1, normal(x.length));
      return [step.map((v, i) => v - scale * g[i]), guess];
    });

  // Denoise, move to a picture that fits y, noise again; no backward pass.
  lab.diffpir = (model, { y, mask, noiseStd, side }, normal, steps, weight = 7) =>
    walk(steps, GRID_POWER, y.length, normal, (x, t, s) => {
      const x0 = clamp(denoise(model, x, t, side)[0]);
      // rho_t = lambda noise_std^2 / (sigma_t / alpha_t)^2
      const rho = weight * noiseStd ** 2 * (lab.alpha(t) / lab.sigma(t)) ** 2;
      // x0_hat = x0 + A^T (rho_t I + A A^T)^-1 (y - A x0)
      const guess = x0.map((v, i) => (mask[i] ? v + (y[i] - v) / (rho + 1) : v));
      // x_s = alpha_s x0_hat + sigma_s z
      const z = normal(x.length);
      return [guess.map((v, i) => lab.alpha(s) * v + lab.sigma(s) * z[i]), guess];
    });

  // The prior's sampler with E[x_0 | x_t, y] in place of E[x_0 | x_t].
  lab.mmps = (model, broken, normal, steps, solverSteps = 1) =>
    walk(steps, GRID_POWER, broken.y.length, normal, (x, t, s) => {
      const guess = clamp(lab.posteriorMean(model, broken, x, t, solverSteps));
      return [lab.reverseStep(x, guess, t, s, 1, normal(x.length)), guess];
    });

  // V v = sigma_t^2 / alpha_t J^T v: what the network says of the covariance of x_0 given x_t.
  lab.guessAndV = (model, x, t, side) => {
    const [guess, slope] = denoise(model, x, t, side);
    const weight = lab.sigma(t) ** 2 / lab.alpha(t);
    return [guess, (v) => slope(v).map((d) => weight * d)];
  };

  // x0_hat + V A^T u, where u solves K u = y - A x0_hat, K = noise_std^2 I + A V A^T, by conjugate gradients.
  lab.posteriorMean = (model, { y, mask, noiseStd, side }, x, t, solverSteps) => {
    const [guess, V] = lab.guessAndV(model, x, t, side);
    const A = (v) => v.map((d, i) => mask[i] * d);
    // M^-1 r = (a I + A A^T)^-1 r with a = noise_std^2 / b, b the variance of a pixel given x_t, were all independent
    const b = 1 / (1 / PIXEL_VARIANCE + (lab.alpha(t) / lab.sigma(t)) ** 2);
    const a = Math.max(noiseStd ** 2 / b, FLOOR);
    const M = (r) => r.map((d, i) => d / (a + mask[i] ** 2));

    let mean = guess, r = y.map((v, i) => v - mask[i] * guess[i]);
    let z = M(r), p = z, rz = dot(r, z);
    for (let step = 1; step <= solverSteps; step++) {
      const VAp = V(A(p));
      const Kp = A(VAp).map((d, i) => noiseStd ** 2 * p[i] + d);
      // length = <r, z> / <p, K p>; a network whose K is not positive along p gets no further step
      const pKp = dot(p, Kp), length = pKp > 0 ? rz / pKp : 0;
      mean = mean.map((v, i) => v + length * VAp[i]);
      r = r.map((v, i) => v - length * Kp[i]);
      z = M(r);
      const next = dot(r, z), turn = rz > 0 ? next / rz : 0;
      p = z.map((v, i) => v + turn * p[i]);
      rz = next;
    }
    return mean;
  };
});
