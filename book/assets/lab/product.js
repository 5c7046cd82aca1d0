// Products of matrices, in which a network spends nearly all its time.
//
// A matrix is first packed into panels that lie side by side in memory: four rows of the left one, eight columns of the
// right one. A product of two panels is a tile of 4 x 8 sums, which stay in the processor's registers (kernel.js).
lab.part("product", (lab) => {
  const FLOAT = 4, PAGE = 65536;

  // Lines r of a matrix whose entry (r, k) is x[r * across + k * along]: out[r / wide][k][r % wide], zeros at the end.
  function pack(x, lines, inner, across, along, wide) {
    const out = new Float32Array(Math.ceil(lines / wide) * wide * inner);
    for (let r = 0; r < lines; r++) {
      let at = (r - (r % wide)) * inner + (r % wide);
      for (let k = 0, from = r * across; k < inner; k++, at += wide, from += along) out[at] = x[from];
    }
    return out;
  }
  // The rows of the left matrix, the columns of the right one.
  lab.left = (x, lines, inner, across, along) => pack(x, lines, inner, across, along, lab.ROWS);
  lab.right = (x, lines, inner, across, along) => pack(x, lines, inner, across, along, lab.COLUMNS);

  // C [rows, columns], C[i, j] = sum_k a[i, k] b[j, k], of packed a and b whose lines have the length `inner`.
  lab.multiply = (a, b, rows, columns, inner) => {
    const wide = Math.ceil(columns / lab.COLUMNS) * lab.COLUMNS, high = Math.ceil(rows / lab.ROWS) * lab.ROWS;
    const heap = room(a.length + b.length + high * wide), start = a.length + b.length;
    heap.set(a);
    heap.set(b, a.length);
    for (let j = 0; j < wide; j += lab.COLUMNS) {
      for (let i = 0; i < high; i += lab.ROWS) {
        lab.tile(FLOAT * i * inner, FLOAT * (a.length + j * inner), inner, FLOAT * (start + i * wide + j), FLOAT * wide);
      }
    }
    const out = new Float32Array(rows * columns);
    for (let i = 0; i < rows; i++) out.set(heap.subarray(start + i * wide, start + i * wide + columns), i * columns);
    return out;
  };

  // The kernel's memory as floats, grown to hold so many.
  function room(floats) {
    const lacking = floats * FLOAT - lab.memory.buffer.byteLength;
    if (lacking > 0) lab.memory.grow(Math.ceil(lacking / PAGE));
    return new Float32Array(lab.memory.buffer);
  }
});
