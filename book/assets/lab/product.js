// Products of matrices, in which a network spends nearly all its time.
//
// A matrix is first packed into panels of three rows that lie side by side in memory. A product then holds three rows of
// A and three columns of B in the processor's registers and makes nine sums at a time; that was the quickest of
// the shapes from 2 x 2 to 8 x 1 that were timed. Sums are kept in 64 bits and stored in 32.
lab.part("product", (lab) => {
  const WIDE = 3;

  // Rows r of a matrix whose entry (r, k) is x[r * across + k * along]: out[r / 3][k][r % 3]; zeros fill the last panel.
  lab.pack = (x, rows, inner, across, along) => {
    const out = new Float32Array(Math.ceil(rows / WIDE) * WIDE * inner);
    for (let r = 0; r < rows; r++) {
      let at = (r - (r % WIDE)) * inner + (r % WIDE);
      for (let k = 0, from = r * across; k < inner; k++, at += WIDE, from += along) out[at] = x[from];
    }
    return out;
  };

  // C = A B^T, [rows, columns], from the packed rows of A and of B, each of length `inner`.
  lab.multiply = (a, b, rows, columns, inner) => {
    const out = new Float32Array(rows * columns);
    const tile = new Float32Array(WIDE * WIDE);
    for (let j = 0; j < columns; j += WIDE) {
      for (let i = 0; i < rows; i += WIDE) {
        nineSums(a, b, i * inner, j * inner, inner, tile);
        const down = Math.min(WIDE, rows - i);
        const across = Math.min(WIDE, columns - j);
        for (let r = 0; r < down; r++) {
          for (let c = 0; c < across; c++) out[(i + r) * columns + j + c] = tile[r * WIDE + c];
        }
      }
    }
    return out;
  };

  function nineSums(a, b, p, q, inner, tile) {
    let s00 = 0, s01 = 0, s02 = 0, s10 = 0, s11 = 0, s12 = 0, s20 = 0, s21 = 0, s22 = 0;
    for (let k = 0; k < inner; k++, p += WIDE, q += WIDE) {
      const a0 = a[p], a1 = a[p + 1], a2 = a[p + 2];
      const b0 = b[q], b1 = b[q + 1], b2 = b[q + 2];
      s00 += a0 * b0; s01 += a0 * b1; s02 += a0 * b2;
      s10 += a1 * b0; s11 += a1 * b1; s12 += a1 * b2;
      s20 += a2 * b0; s21 += a2 * b1; s22 += a2 * b2;
    }
    tile[0] = s00; tile[1] = s01; tile[2] = s02;
    tile[3] = s10; tile[4] = s11; tile[5] = s12;
    tile[6] = s20; tile[7] = s21; tile[8] = s22;
  }
});
