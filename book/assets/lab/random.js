// Normal numbers from a seed, the same in every browser; not those of emlib, whose streams are PyTorch's.
lab.part("random", (lab) => {
  // Uniform on (0, 1): mulberry32, a counter that is stirred.
  lab.uniform = (seed) => {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let z = Math.imul(state ^ (state >>> 15), state | 1);
      z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
      return (((z ^ (z >>> 14)) >>> 0) + 0.5) / 4294967296;
    };
  };

  // (n) -> n numbers, by Box and Muller: sqrt(-2 log u) cos(2 pi v).
  lab.normal = (seed) => {
    const next = lab.uniform(seed);
    return (n) => Float32Array.from({ length: n }, () => Math.sqrt(-2 * Math.log(next())) * Math.cos(2 * Math.PI * next()));
  };
});
