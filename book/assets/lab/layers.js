// The layers of the network, forward and backward.
//
// A layer is a function x -> [y, back]. It gives what it makes of x, and a function back(dy) -> dx, the product of its
// transposed slope with dy. The slope of a whole network is then the backs of its layers, called in reverse. That is all
// of reverse-mode differentiation that a sampler needs: nobody asks here for the slope by a weight.
//
// Maps of features are { c, h, w, x }: channels, height, width and a Float32Array [c, h, w]; dy and dx are plain arrays.
lab.part("layers", (lab) => {
  lab.sum = (a, b) => a.map((v, i) => v + b[i]);

  // y[o] = bias[o] + sum_c weight[o, c] * x[c], a kernel of 3 x 3 pixels or of one; weight: { shape: [O, C, k, k], x }.
  // Stride 1 pads all around; stride 2 pads right and below alone, as DDPM does.
  lab.convolution = (weight, bias, stride = 1) => {
    const [outs, ins, k = 1] = weight.shape;
    const inner = ins * k * k;
    const before = k === 3 && stride === 1 ? 1 : 0;
    const rows = lab.left(weight.x, outs, inner, inner, 1);
    const columns = lab.left(weight.x, inner, outs, 1, inner);
    return (map) => {
      const { h, w } = map;
      const high = h / stride, wide = w / stride;
      const places = visited(ins, h, w, k, stride, before);
      // each place of the kernel is a column; y = W columns
      const y = lab.multiply(rows, unfold(map.x, places, high * wide, inner), outs, high * wide, inner);
      for (let i = 0; i < y.length; i++) y[i] += bias.x[(i / (high * wide)) | 0];
      const back = (dy) => {
        // d columns = W^T dy, and each column's entries go back to where they came from
        const spread = lab.multiply(columns, lab.right(dy, high * wide, outs, 1, high * wide), inner, high * wide, outs);
        const dx = new Float32Array(ins * h * w);
        for (let i = 0; i < spread.length; i++) if (places[i] >= 0) dx[places[i]] += spread[i];
        return dx;
      };
      return [{ c: outs, h: high, w: wide, x: y }, back];
    };
  };

  // Where in x entry (row, column) of the unfolded picture lies, or -1 outside; kept, since sizes return in every step.
  const known = new Map();
  function visited(ins, h, w, k, stride, before) {
    const key = [ins, h, w, k, stride, before].join();
    if (known.has(key)) return known.get(key);
    const high = h / stride, wide = w / stride;
    const places = new Int32Array(ins * k * k * high * wide);
    for (let row = 0, i = 0; row < ins * k * k; row++) {
      const c = Math.floor(row / (k * k)), u = Math.floor(row / k) % k, v = row % k;
      for (let y = 0; y < high; y++) {
        for (let x = 0; x < wide; x++, i++) {
          const down = y * stride + u - before, right = x * stride + v - before;
          places[i] = down < 0 || down >= h || right < 0 || right >= w ? -1 : (c * h + down) * w + right;
        }
      }
    }
    known.set(key, places);
    return places;
  }

  // The columns, packed as by `lab.right`.
  function unfold(x, places, columns, inner) {
    const wide = lab.COLUMNS;
    const out = new Float32Array(Math.ceil(columns / wide) * wide * inner);
    for (let row = 0, i = 0; row < inner; row++) {
      for (let n = 0; n < columns; n++, i++) {
        const at = places[i];
        if (at >= 0) out[(n - (n % wide)) * inner + wide * row + (n % wide)] = x[at];
      }
    }
    return out;
  }

  // y = gain * (x - mean) / std + bias within groups of channels, then silu(y) = y / (1 + exp(-y)) unless `plain`.
  lab.norm = (gain, bias, groups, plain = false) => (map) => {
    const { c, h, w, x } = map;
    const size = x.length / groups, channel = h * w;
    const scaled = new Float32Array(x.length), slope = new Float32Array(x.length), y = new Float32Array(x.length);
    const inverse = new Float64Array(groups);
    for (let g = 0; g < groups; g++) {
      let mean = 0, square = 0;
      for (let i = g * size; i < (g + 1) * size; i++) mean += x[i] / size;
      for (let i = g * size; i < (g + 1) * size; i++) square += (x[i] - mean) ** 2 / size;
      inverse[g] = 1 / Math.sqrt(square + 1e-6);
      for (let i = g * size; i < (g + 1) * size; i++) {
        const o = (i / channel) | 0;
        scaled[i] = (x[i] - mean) * inverse[g];
        const z = gain.x[o] * scaled[i] + bias.x[o];
        const s = plain ? 1 : 1 / (1 + Math.exp(-z));
        y[i] = z * s;
        // d y / d scaled;   d silu(z) / dz = s + z s (1 - s)
        slope[i] = gain.x[o] * (plain ? 1 : s + z * s * (1 - s));
      }
    }
    const back = (dy) => {
      const dx = new Float32Array(dy.length);
      for (let g = 0; g < groups; g++) {
        let mean = 0, along = 0;
        for (let i = g * size; i < (g + 1) * size; i++) {
          mean += (dy[i] * slope[i]) / size;
          along += (dy[i] * slope[i] * scaled[i]) / size;
        }
        // mean and length are taken out of x, so out of its slope too
        for (let i = g * size; i < (g + 1) * size; i++) {
          dx[i] = inverse[g] * (dy[i] * slope[i] - mean - scaled[i] * along);
        }
      }
      return dx;
    };
    return [{ c, h, w, x: y }, back];
  };

  // Every pixel becomes four.
  lab.doubled = ({ c, h, w, x }) => {
    const y = new Float32Array(4 * x.length);
    const from = (i) => {
      const row = Math.floor(i / (2 * w));
      return Math.floor(row / 2) * w + ((i % (2 * w)) >> 1);
    };
    for (let i = 0; i < y.length; i++) y[i] = x[from(i)];
    const back = (dy) => {
      const dx = new Float32Array(x.length);
      for (let i = 0; i < dy.length; i++) dx[from(i)] += dy[i];
      return dx;
    };
    return [{ c, h: 2 * h, w: 2 * w, x: y }, back];
  };

  // Squares of patch x patch pixels become the channels of one (pixel-unshuffle), or, for `out`, the way back.
  lab.folded = (patch, out = false) => (map) => {
    const c = out ? map.c / patch ** 2 : map.c, h = out ? map.h * patch : map.h, w = out ? map.w * patch : map.w;
    const place = (i) => {
      const channel = Math.floor(i / (h * w)), down = Math.floor(i / w) % h, right = i % w;
      const deep = (channel * patch + (down % patch)) * patch + (right % patch);
      return (deep * (h / patch) + Math.floor(down / patch)) * (w / patch) + Math.floor(right / patch);
    };
    const fold = (x) => { const y = new Float32Array(x.length); x.forEach((v, i) => { y[place(i)] = v; }); return y; };
    const unfold = (x) => x.map((_, i) => x[place(i)]);
    if (out) return [{ c, h, w, x: unfold(map.x) }, fold];
    return [{ c: c * patch ** 2, h: h / patch, w: w / patch, x: fold(map.x) }, unfold];
  };

  // a and b side by side as channels; back gives both gradients.
  lab.joined = (a, b) => {
    const x = new Float32Array(a.x.length + b.x.length);
    x.set(a.x);
    x.set(b.x, a.x.length);
    return [{ c: a.c + b.c, h: a.h, w: a.w, x }, (dx) => [dx.slice(0, a.x.length), dx.slice(a.x.length)]];
  };
});
