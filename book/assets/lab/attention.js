// Self-attention, in which every pixel looks at every other one; forward and backward.
lab.part("attention", (lab) => {
  // q, k, v: arrays [C, N], a column a pixel -> [h, back], h = v softmax(q^T k / sqrt(C))^T, [C, N].
  lab.attention = (q, k, v, channels) => {
    const pixels = q.length / channels;
    // rows of a matrix [R, I], and its columns, packed
    const rows = (x, r, inner) => lab.pack(x, r, inner, inner, 1);
    const columns = (x, r, inner) => lab.pack(x, inner, r, 1, inner);
    const scale = 1 / Math.sqrt(channels);

    // P[i, j] = softmax_j(<q_i, k_j> / sqrt(C))
    const P = lab.multiply(columns(q, channels, pixels), columns(k, channels, pixels), pixels, pixels, channels);
    for (let i = 0; i < pixels; i++) {
      const row = P.subarray(i * pixels, (i + 1) * pixels);
      const most = row.reduce((a, b) => Math.max(a, b));
      let total = 0;
      for (let j = 0; j < pixels; j++) total += row[j] = Math.exp((row[j] - most) * scale);
      for (let j = 0; j < pixels; j++) row[j] /= total;
    }
    // h_i = sum_j P[i, j] v_j
    const h = lab.multiply(rows(v, channels, pixels), rows(P, pixels, pixels), channels, pixels, pixels);

    const back = (dh) => {
      const dv = lab.multiply(rows(dh, channels, pixels), columns(P, pixels, pixels), channels, pixels, pixels);
      // dP[i, j] = <dh_i, v_j>,   dS = P (dP - sum_j P dP) / sqrt(C)
      const S = lab.multiply(columns(dh, channels, pixels), columns(v, channels, pixels), pixels, pixels, channels);
      for (let i = 0; i < pixels; i++) {
        let mean = 0;
        for (let j = i * pixels; j < (i + 1) * pixels; j++) mean += P[j] * S[j];
        for (let j = i * pixels; j < (i + 1) * pixels; j++) S[j] = P[j] * (S[j] - mean) * scale;
      }
      const dq = lab.multiply(rows(k, channels, pixels), rows(S, pixels, pixels), channels, pixels, pixels);
      const dk = lab.multiply(rows(q, channels, pixels), columns(S, pixels, pixels), channels, pixels, pixels);
      return [dq, dk, dv];
    };
    return [h, back];
  };
});
