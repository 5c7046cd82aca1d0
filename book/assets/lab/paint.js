// A picture to paint holes into: by mouse, finger or pen; by arrow keys and the space bar.
lab.part("paint", (lab) => {
  // onChange() is called when the mask has changed; brush() -> { radius, hides }.
  lab.canvasToPaint = (side, brush, onChange) => {
    const canvas = lab.make("canvas", {
      width: side, height: side, tabindex: 0, role: "application", class: "emlib-lab-paint",
      "aria-label": "Picture to hide parts of. Arrow keys move the brush, the space bar paints.",
    });
    const state = { truth: new Float32Array(side * side), mask: new Float32Array(side * side).fill(1) };
    let at = { x: side >> 1, y: side >> 1 }, keyed = false;

    function redraw() {
      lab.paintPixels(canvas, state.truth, state.mask);
      if (!keyed) return;
      const { radius } = brush(), pen = canvas.getContext("2d");
      pen.strokeStyle = "#ffd400";
      pen.strokeRect(at.x - radius + 0.5, at.y - radius + 0.5, 2 * radius, 2 * radius);
    }

    function dab({ x, y }) {
      const { radius, hides } = brush();
      for (let down = Math.max(0, y - radius); down <= Math.min(side - 1, y + radius); down++) {
        for (let right = Math.max(0, x - radius); right <= Math.min(side - 1, x + radius); right++) {
          state.mask[down * side + right] = hides ? 0 : 1;
        }
      }
      redraw();
      onChange();
    }

    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      const pixel = (from, length, value) => Math.max(0, Math.min(side - 1, Math.floor(((value - from) / length) * side)));
      return { x: pixel(box.left, box.width, event.clientX), y: pixel(box.top, box.height, event.clientY) };
    };
    // from the last place to this one, so that a quick hand leaves no gaps
    const stroke = (from, to) => {
      const steps = Math.max(1, Math.abs(to.x - from.x), Math.abs(to.y - from.y));
      for (let i = 1; i <= steps; i++) {
        dab({ x: Math.round(from.x + ((to.x - from.x) * i) / steps), y: Math.round(from.y + ((to.y - from.y) * i) / steps) });
      }
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      keyed = false;
      dab((at = place(event)));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!canvas.hasPointerCapture(event.pointerId)) return;
      const next = place(event);
      stroke(at, next);
      at = next;
    });
    canvas.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!move && event.key !== " ") return;
      event.preventDefault();
      keyed = true;
      if (!move) return dab(at);
      at = { x: Math.max(0, Math.min(side - 1, at.x + move[0])), y: Math.max(0, Math.min(side - 1, at.y + move[1])) };
      redraw();
    });
    canvas.addEventListener("blur", () => { keyed = false; redraw(); });

    return {
      canvas, state,
      // Another picture, or another mask: a function (column, row) -> whether it is seen.
      set({ truth = state.truth, seen }) {
        state.truth = truth;
        if (seen) state.mask = state.mask.map((_, i) => (seen(i % side, Math.floor(i / side)) ? 1 : 0));
        redraw();
        onChange();
      },
    };
  };
});
