// Self-attention, in which every pixel looks at every other one; forward and backward.
lab.part("attention", (lab) => {
  // q, k, v: arrays [C, N], a column a pixel -> [h, back], h = v softmax(q^T k / sqrt(C))^T, [C, N].
  lab.attention = (q, k, v, channels) => {
    const pixels = q.length / channels, { left, right } = lab;
    // the rows of a matrix [R, I], and its columns, as the left or the right side of a product
    const rows = (side, x, r, inner) => side(x, r, inner, inner, 1);
    const columns = (side, x, r, inner) => side(x, inner, r, 1, inner);
    const scale = 1 / Math.sqrt(channels);

    // P[i, j] = softmax_j(<q_i, k_j> / sqrt(C))
    const P = lab.multiply(columns(left, q, channels, pixels), columns(right, k, channels, pixels), pixels, pixels, channels);
    for (let i = 0; i < pixels; i++) {
      const row = P.subarray(i * pixels, (i + 1) * pixels);
      const most = row.reduce((a, b) => Math.max(a, b));
      let total = 0;
      for (let j = 0; j < pixels; j++) total += row[j] = Math.exp((row[j] - most) * scale);
      for (let j = 0; j < pixels; j++) row[j] /= total;
    }
    // h_i = sum_j P[i, j] v_j
    const h = lab.multiply(rows(left, v, channels, pixels), rows(right, P, pixels, pixels), channels, pixels, pixels);

    const back = (dh) => {
      const dv = lab.multiply(rows(left, dh, channels, pixels), columns(right, P, pixels, pixels), channels, pixels, pixels);
      // dP[i, j] = <dh_i, v_j>,   dS = P (dP - sum_j P dP) / sqrt(C)
      const S = lab.multiply(columns(left, dh, channels, pixels), columns(right, v, channels, pixels), pixels, pixels, channels);
      for (let i = 0; i < pixels; i++) {
        let mean = 0;
        for (let j = i * pixels; j < (i + 1) * pixels; j++) mean += P[j] * S[j];
        for (let j = i * pixels; j < (i + 1) * pixels; j++) S[j] = P[j] * (S[j] - mean) * scale;
      }
      const dq = lab.multiply(rows(left, k, channels, pixels), rows(right, S, pixels, pixels), channels, pixels, pixels);
      const dk = lab.multiply(rows(left, q, channels, pixels), columns(right, S, pixels, pixels), channels, pixels, pixels);
      return [dq, dk, dv];
    };
    return [h, back];
  };
});
