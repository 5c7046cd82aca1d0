// The U-Net eps_theta(x_t, t) of emlib/unet/network.py, with the same names of its parts, forward and backward.
lab.part("network", (lab) => {
  // config: emlib's UNetConfig; weights: name -> { shape, x } -> a function (map, t) -> [eps, back].
  lab.network = (config, weights) => {
    const { channels, blocks, attention, patch, groups, refine } = config;
    const has = (name) => `${name}.weight` in weights;
    const read = (name) => [weights[`${name}.weight`], weights[`${name}.bias`]];
    const conv = (name, stride) => lab.convolution(...read(name), stride);
    const norm = (name, plain) => lab.norm(...read(name), groups, plain);

    // Two convolutions with a shortcut; the time shifts what passes between them.
    function block(name) {
      const norm1 = norm(`${name}.norm1`), conv1 = conv(`${name}.conv1`);
      const norm2 = norm(`${name}.norm2`), conv2 = conv(`${name}.conv2`);
      const shortcut = has(`${name}.conv_shortcut`) ? conv(`${name}.conv_shortcut`) : (x) => [x, (dy) => dy];
      return (x, time) => {
        const shift = linear(...read(`${name}.time_emb_proj`), time.map(silu));
        const [a, backA] = norm1(x);
        const [b, backB] = conv1(a);
        const [c, backC] = norm2({ ...b, x: b.x.map((v, i) => v + shift[(i / (b.h * b.w)) | 0]) });
        const [d, backD] = conv2(c);
        const [short, backShort] = shortcut(x);
        const back = (dy) => lab.sum(backA(backB(backC(backD(dy)))), backShort(dy));
        return [{ ...d, x: lab.sum(d.x, short.x) }, back];
      };
    }

    function attend(name) {
      const before = norm(`${name}.group_norm`, true), after = conv(`${name}.to_out.0`);
      const three = ["to_q", "to_k", "to_v"].map((part) => conv(`${name}.${part}`));
      return (x) => {
        const [n, backN] = before(x);
        const [q, k, v] = three.map((part) => part(n));
        const [h, backH] = lab.attention(q[0].x, k[0].x, v[0].x, x.c);
        const [y, backY] = after({ ...x, x: h });
        const back = (dy) => {
          const [dq, dk, dv] = backH(backY(dy));
          return lab.sum(dy, backN(lab.sum(lab.sum(q[1](dq), k[1](dk)), v[1](dv))));
        };
        return [{ ...x, x: lab.sum(x.x, y.x) }, back];
      };
    }

    // One after the other, each a function (x, time) -> [y, back].
    const chain = (...parts) => (x, time) => {
      const backs = [];
      for (const part of parts) {
        const [y, back] = part(x, time);
        backs.unshift(back);
        x = y;
      }
      return [x, (dy) => backs.reduce((d, back) => back(d), dy)];
    };

    const last = channels.length - 1;
    const level = (name, i, attends) =>
      attends ? chain(block(`${name}.resnets.${i}`), attend(`${name}.attentions.${i}`)) : block(`${name}.resnets.${i}`);
    const into = chain(lab.folded(patch), conv("conv_in"));
    const down = [], up = []; // on the way up each block is joined by what the way down has left
    for (let i = 0; i <= last; i++) {
      for (let j = 0; j < blocks; j++) down.push(level(`down_blocks.${i}`, j, attention[i]));
      if (i < last) down.push(conv(`down_blocks.${i}.downsamplers.0.conv`, 2));
    }
    const middle = chain(block("mid_block.resnets.0"), attend("mid_block.attentions.0"), block("mid_block.resnets.1"));
    for (let i = 0; i <= last; i++) {
      for (let j = 0; j <= blocks; j++) up.push({ joins: true, part: level(`up_blocks.${i}`, j, attention[last - i]) });
      if (i < last) up.push({ joins: false, part: chain(lab.doubled, conv(`up_blocks.${i}.upsamplers.0.conv`)) });
    }
    const out = chain(norm("conv_norm_out"), conv("conv_out"), lab.folded(patch, true));
    const mend = refine ? refined(conv("refine_in"), conv("refine_out")) : (h) => [h, (dy) => [dy, null]];

    return (x, t) => {
      const time = lab.timeVector(weights, channels[0], t);
      const [first, backInto] = into(x, time);
      let h = first;
      const skips = [h], backsDown = [], backsUp = [];
      for (const part of down) {
        const [y, back] = part(h, time);
        backsDown.push(back);
        skips.push(y);
        h = y;
      }
      const [deep, backMiddle] = middle(h, time);
      h = deep;
      for (const { joins, part } of up) {
        const [both, split] = joins ? lab.joined(h, skips.pop()) : [h, (dy) => [dy, null]];
        const [y, back] = part(both, time);
        backsUp.push((dy) => split(back(dy)));
        h = y;
      }
      const [coarse, backOut] = out(h, time);
      const [eps, backMend] = mend(coarse, x);

      const back = (dy) => {
        const [dCoarse, dPast] = backMend(dy);
        let d = backOut(dCoarse);
        const dSkips = [];
        for (const step of backsUp.toReversed()) {
          const [dh, dSkip] = step(d);
          if (dSkip) dSkips.push(dSkip);
          d = dh;
        }
        d = backMiddle(d);
        for (let i = down.length - 1; i >= 0; i--) d = backsDown[i](lab.sum(d, dSkips[i + 1]));
        const dx = backInto(lab.sum(d, dSkips[0]));
        return dPast ? lab.sum(dx, dPast) : dx;
      };
      return [eps, back];
    };
  };

  // y = h + out(silu(in([h, x]))), on the unfolded picture; back gives the gradients by h and by x.
  const refined = (inner, outer) => (h, x) => {
    const [both, split] = lab.joined(h, x);
    const [a, backA] = inner(both);
    const [b, backB] = outer({ ...a, x: a.x.map(silu) });
    const back = (dy) => {
      const [dh, dx] = split(backA(backB(dy).map((d, i) => d * siluSlope(a.x[i]))));
      return [lab.sum(dh, dy), dx];
    };
    return [{ ...h, x: lab.sum(h.x, b.x) }, back];
  };

  const sigmoid = (z) => 1 / (1 + Math.exp(-z));
  const silu = (z) => z * sigmoid(z);
  const siluSlope = (z) => sigmoid(z) * (1 + z * (1 - sigmoid(z)));

  function linear(weight, bias, x) {
    return bias.x.map((b, o) => {
      let sum = b;
      for (let i = 0; i < x.length; i++) sum += weight.x[o * x.length + i] * x[i];
      return sum;
    });
  }

  // Sines and cosines of the time, turned by two layers into a vector that every block reads.
  lab.timeVector = (weights, width, t) => {
    const half = width / 2;
    // frequencies 10000^(-i / (half - 1))
    const angles = Array.from({ length: half }, (_, i) => t * 10000 ** (-i / (half - 1)));
    const waves = Float32Array.from([...angles.map(Math.sin), ...angles.map(Math.cos)]);
    const layer = (i, x) => linear(weights[`time_embedding.linear_${i}.weight`], weights[`time_embedding.linear_${i}.bias`], x);
    return layer(2, layer(1, waves).map(silu));
  };
});
