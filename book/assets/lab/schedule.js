// Noise levels and one step back, as in emlib/schedule.py and emlib/diffusion.py: x_t = alpha_t x_0 + sigma_t eps.
lab.part("schedule", (lab) => {
  const T = 1000;
  // beta_t = 1e-4 + (0.02 - 1e-4) t / (T - 1),   alpha_bar_t = prod_{s <= t} (1 - beta_s)
  const alphaBar = new Float32Array(T);
  for (let t = 0, product = 1; t < T; t++) alphaBar[t] = product *= 1 - (1e-4 + ((0.02 - 1e-4) * t) / (T - 1));

  // t = -1 is the clean picture
  lab.alpha = (t) => (t < 0 ? 1 : Math.sqrt(alphaBar[t]));
  lab.sigma = (t) => (t < 0 ? 0 : Math.sqrt(1 - alphaBar[t]));

  // To the nearest whole number, and to the even one from halfway, as Python rounds.
  const rounded = (x) => (x % 1 === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

  // Times that a sampler visits, from T - 1 down to 0, and then -1; a power above 1 crowds them towards 0.
  lab.timeGrid = (steps, power = 1) => {
    const last = Math.max(1, steps - 1), times = [];
    // t_i = (T - 1) (left / (steps - 1))^power, and never two calls at the same time
    for (let left = steps - 1; left >= 0; left--) {
      times.push(Math.max(rounded((T - 1) * (left / last) ** power), left));
    }
    return [T - 1, ...times.slice(1), -1];
  };

  // x0_hat = (x_t - sigma_t eps) / alpha_t
  lab.predictX0 = (x, eps, t) => x.map((v, i) => (v - lab.sigma(t) * eps[i]) / lab.alpha(t));

  // From time t to an earlier time s, given where the picture seems to be going; eta is the share of fresh noise.
  lab.reverseStep = (x, guess, t, s, eta, noise) => {
    const [a, b, from, to] = [lab.alpha(t), lab.alpha(s), lab.sigma(t), lab.sigma(s)];
    // fresh = eta sigma_s / sigma_t sqrt(1 - alpha_t^2 / alpha_s^2)
    const fresh = ((eta * to) / from) * Math.sqrt(1 - (a / b) ** 2);
    const kept = Math.sqrt(Math.max(to ** 2 - fresh ** 2, 0));
    // x_s = alpha_s x0_hat + sqrt(sigma_s^2 - fresh^2) eps + fresh z,   eps = (x_t - alpha_t x0_hat) / sigma_t
    return x.map((v, i) => b * guess[i] + (kept * (v - a * guess[i])) / from + fresh * noise[i]);
  };
});
