// The page's side of the worker: sends it priors and jobs, hears of each step, and gives all memory back at the end.
lab.part("crew", (lab) => {
  const arrived = new Map(); // priors whose script has run and which nobody has fetched yet
  lab.keepPrior = (name, about, text) => arrived.set(name, { about, text });

  // Resolves to { about, text } of a prior, whose script is loaded now.
  async function priorFile(name) {
    await lab.load(`prior-${name}.js`);
    const found = arrived.get(name);
    arrived.delete(name);
    return found;
  }

  lab.crew = () => {
    const texts = lab.PARTS.map((name) => `lab.part(${JSON.stringify(name)}, ${lab.made.get(name)});`);
    const source = `"use strict"; const lab = {}; lab.part = (name, make) => make(lab);\n${texts.join("\n")}\nlab.serve(self);`;
    const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    const worker = new Worker(address), jobs = new Map(), priors = new Map();
    let last = 0;
    worker.onmessage = ({ data: { id, ...step } }) => {
      const { onStep, done, failed } = jobs.get(id);
      if (step.error) failed(new Error(step.error));
      else if (step.done) done(!step.stopped);
      else return onStep(step);
      jobs.delete(id);
    };
    worker.onerror = (event) => jobs.forEach(({ failed }) => failed(new Error(event.message)));

    async function send(name) {
      const { about, text } = await priorFile(name);
      const bytes = lab.bytes(text);
      worker.postMessage({ prior: name, config: about.config, shapes: about.shapes, bytes }, [bytes.buffer]);
    }

    return {
      // Sees to it that the worker has this prior; 2 MB are read where it has not.
      async need(name) {
        if (!priors.has(name)) priors.set(name, send(name));
        return priors.get(name).catch((error) => { priors.delete(name); throw error; });
      },
      // Runs a job; resolves to whether it came to its end.
      start(job, onStep) {
        return new Promise((done, failed) => {
          jobs.set(++last, { onStep, done, failed });
          worker.postMessage({ ...job, id: last });
        });
      },
      stop: () => worker.postMessage({ stop: last }),
      close() {
        worker.terminate();
        URL.revokeObjectURL(address);
        jobs.forEach(({ done }) => done(false));
        jobs.clear();
      },
    };
  };
});
