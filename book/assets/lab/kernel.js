// The innermost loop of all, 4 x 8 sums at a time, as a WebAssembly module of some two hundred bytes.
//
// A processor adds and multiplies four numbers at once, which JavaScript cannot ask for and WebAssembly can. The module is
// put together here, byte by byte, from instructions with the names of its specification.
lab.part("kernel", (lab) => {
  lab.ROWS = 4;
  lab.COLUMNS = 8;

  // ---- instructions ----
  const get = (local) => [0x20, local], set = (local) => [0x21, local];
  const constant = (value) => [0x41, value], add = [0x6a], subtract = [0x6b];
  const loop = [0x03, 0x40], again = [0x0d, 0], end = [0x0b]; // `again` goes back to the loop's start unless it finds 0
  const load = (offset) => [0xfd, 0, 2, offset], store = (offset) => [0xfd, 11, 2, offset]; // four floats
  const spread = (offset) => [0xfd, 9, 2, offset]; // one float, four times
  const plus = [0xfd, 0xe4, 1], times = [0xfd, 0xe6, 1]; // four floats by four floats
  const ahead = (local, by) => [get(local), constant(by), add, set(local)];

  // ---- tile(a, b, inner, out, stride): out[r, c] = sum_k a[k, r] b[k, c], addresses in bytes; stride is a row of out ----
  const [A, B, INNER, OUT, STRIDE, LEFT, RIGHT, ONE, SUMS] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
  const rows = [0, 1, 2, 3], halves = [LEFT, RIGHT];
  const sum = (row, half) => SUMS + 2 * row + half;
  const code = [
    loop,
    get(B), load(0), set(LEFT), get(B), load(16), set(RIGHT),
    rows.map((row) => [
      get(A), spread(4 * row), set(ONE),
      halves.map((four, half) => [get(ONE), get(four), times, get(sum(row, half)), plus, set(sum(row, half))]),
    ]),
    ahead(A, 16), ahead(B, 32),
    get(INNER), constant(1), subtract, set(INNER), get(INNER), again,
    end,
    rows.map((row) => [
      get(OUT), get(sum(row, 0)), store(0), get(OUT), get(sum(row, 1)), store(16), get(OUT), get(STRIDE), add, set(OUT),
    ]),
    end,
  ].flat(Infinity);

  // ---- the module: types, an imported memory, one function, its name and its code ----
  const number = (n) => (n < 128 ? [n] : [(n & 127) | 128, n >> 7]);
  const counted = (bytes) => [...number(bytes.length), ...bytes];
  const words = (text) => counted([...text].map((letter) => letter.charCodeAt(0)));
  const section = (id, bytes) => [id, ...counted(bytes)];
  const [I32, V128] = [0x7f, 0x7b];
  const bytes = Uint8Array.from([
    0, ...[..."asm"].map((letter) => letter.charCodeAt(0)), 1, 0, 0, 0,
    ...section(1, [1, 0x60, ...counted([I32, I32, I32, I32, I32]), 0]),
    ...section(2, [1, ...words("lab"), ...words("memory"), 2, 0, 1]),
    ...section(3, [1, 0]),
    ...section(7, [1, ...words("tile"), 0, 0]),
    ...section(10, [1, ...counted([1, 11, V128, ...code])]),
  ]);
  if (!WebAssembly.validate(bytes)) {
    throw new Error("This browser cannot multiply four numbers at once; Chrome 91, Firefox 89, Safari 16.4 and newer can.");
  }
  lab.memory = new WebAssembly.Memory({ initial: 1 });
  lab.tile = new WebAssembly.Instance(new WebAssembly.Module(bytes), { lab: { memory: lab.memory } }).exports.tile;
});
