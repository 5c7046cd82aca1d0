// What runs in the worker: it keeps networks, and walks step by step, so that a word to stop is heard in between.
lab.part("worker", (lab) => {
  const SAMPLERS = {
    prior: (model, job, normal) => lab.sample(model, job.side, normal, job.steps, job.eta),
    mmps: (model, job, normal) => lab.mmps(model, job.broken, normal, job.steps, job.solverSteps),
    dps: (model, job, normal) => lab.dps(model, job.broken, normal, job.steps, job.scale),
    diffpir: (model, job, normal) => lab.diffpir(model, job.broken, normal, job.steps, job.weight),
  };
  const pause = () => new Promise((done) => setTimeout(done));

  // Messages to `port`: { prior, config, shapes, bytes } keeps a network; { id, sampler, prior, seed, ... } is a job;
  // { stop: id } ends that job and those before it. Answers: { id, t, x, guess } for a step, then { id, done } or { id, error }.
  lab.serve = (port) => {
    const networks = new Map();
    let stopped = 0, queue = Promise.resolve();
    port.onmessage = ({ data }) => {
      if ("stop" in data) stopped = data.stop;
      else if ("id" in data) queue = queue.then(() => work(data));
      else networks.set(data.prior, lab.network(data.config, lab.unpack(data.shapes, data.bytes)));
    };
    async function work({ id, ...job }) {
      try {
        const walk = SAMPLERS[job.sampler](networks.get(job.prior), job, lab.normal(job.seed));
        await pause();
        while (id > stopped) {
          const { done, value } = walk.next();
          if (done) break;
          port.postMessage({ id, ...value });
          await pause();
        }
        port.postMessage({ id, done: true, stopped: id <= stopped });
      } catch (error) {
        port.postMessage({ id, error: `${job.sampler} failed: ${error.message}` });
      }
    }
  };
});
