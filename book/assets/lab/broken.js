// Pictures that come with the page or from the reader's own disk, and how they are broken.
lab.part("broken", (lab) => {
  const SIDE = 28;
  lab.side = SIDE;

  const decode = (text) => {
    const bytes = lab.bytes(text), size = SIDE * SIDE;
    return Array.from({ length: bytes.length / size }, (_, i) =>
      Float32Array.from(bytes.subarray(i * size, (i + 1) * size), (byte) => byte / 127.5 - 1));
  };
  lab.keepPictures = (heldOut, clean) => {
    lab.heldOut = decode(heldOut);
    lab.clean = decode(clean);
  };

  // Whether a pixel is seen, for a share of hidden ones: exactly so many, drawn by the seed.
  lab.randomMask = (share, seed) => {
    const next = lab.uniform(seed), size = SIDE * SIDE;
    const order = Array.from({ length: size }, (_, i) => i);
    for (let i = size - 1; i > 0; i--) {
      const j = Math.floor(next() * (i + 1));
      [order[i], order[j]] = [order[j], order[i]];
    }
    const hidden = new Set(order.slice(0, Math.round(share * size)));
    return (column, row) => !hidden.has(row * SIDE + column);
  };

  // y = m * (x + noise): what the samplers take.
  lab.measured = (truth, mask, noiseStd, seed) => {
    const noise = lab.normal(seed + 0x5eed)(truth.length);
    return { y: truth.map((v, i) => mask[i] * (v + noiseStd * noise[i])), mask: mask.slice(), noiseStd, side: SIDE };
  };

  // A row of pictures to pick from; onPick(x).
  lab.pickPicture = (onPick) => {
    const group = `lab-pick-${Math.random().toString(36).slice(2)}`;
    const choices = lab.heldOut.map((x, i) => {
      const radio = lab.make("input", { type: "radio", name: group, autocomplete: "off", change: () => onPick(x) });
      radio.checked = i === 0;
      const canvas = lab.make("canvas", { width: SIDE, height: SIDE, "aria-hidden": "true" });
      lab.paintPixels(canvas, x);
      return lab.make("label", {}, radio, canvas, lab.make("span", {}, `picture ${i + 1}`));
    });
    return lab.make("fieldset", { class: "emlib-lab-pick" }, lab.make("legend", {}, "A picture no prior has seen"), ...choices);
  };

  // A file of the reader's, cut to a square, made grey and small, and light on dark as the book's are; it stays here.
  lab.ownPicture = (onPick, say) => {
    const input = lab.make("input", { type: "file", accept: "image/*", id: `lab-own-${Math.random().toString(36).slice(2)}` });
    input.addEventListener("change", async () => {
      const [file] = input.files;
      if (!file) return;
      try {
        onPick(await small(file));
        say("Your picture stays in this page. The priors have only seen clothes: expect them to see clothes in it.");
      } catch (error) {
        say(`${file.name} could not be read as a picture (${error.message}). PNG and JPEG can.`);
      }
      input.value = "";
    });
    const label = lab.make("label", { for: input.id }, "or one of your own (it never leaves this page)");
    return lab.make("div", { class: "emlib-lab-dial" }, label, input);
  };

  async function small(file) {
    const picture = await createImageBitmap(file), least = Math.min(picture.width, picture.height);
    const canvas = lab.make("canvas", { width: SIDE, height: SIDE }), pen = canvas.getContext("2d");
    pen.fillRect(0, 0, SIDE, SIDE);
    pen.imageSmoothingQuality = "high";
    pen.drawImage(picture, (picture.width - least) / 2, (picture.height - least) / 2, least, least, 0, 0, SIDE, SIDE);
    picture.close();
    const { data } = pen.getImageData(0, 0, SIDE, SIDE);
    const grey = Float32Array.from({ length: SIDE * SIDE }, (_, i) =>
      (0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2]) / 127.5 - 1);
    const onEdge = (i) => i < SIDE || i >= SIDE * (SIDE - 1) || i % SIDE === 0 || i % SIDE === SIDE - 1;
    const edge = grey.filter((_, i) => onEdge(i));
    return edge.reduce((a, b) => a + b) > 0 ? grey.map((v) => -v) : grey;
  }
});
