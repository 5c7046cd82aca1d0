// Priors and pictures as they come: text in a script, since a page from a file cannot fetch anything else.
lab.part("weights", (lab) => {
  lab.bytes = (text) => {
    const letters = atob(text), bytes = new Uint8Array(letters.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
    return bytes;
  };

  // A matrix is a scale for each row and then one byte a number; what has one dimension is plain float32.
  lab.unpack = (shapes, bytes) => {
    const weights = {};
    let at = bytes.byteOffset;
    for (const [name, shape] of Object.entries(shapes)) {
      const size = shape.reduce((a, b) => a * b), rows = shape[0];
      let x = new Float32Array(bytes.buffer.slice(at, at + 4 * rows));
      at += 4 * rows;
      if (shape.length > 1) {
        const levels = new Int8Array(bytes.buffer, at, size), scale = x;
        x = new Float32Array(size);
        for (let i = 0; i < size; i++) x[i] = levels[i] * scale[Math.floor((i * rows) / size)];
        at += size;
      }
      weights[name] = { shape, x };
    }
    return weights;
  };
});
