// What is shown, and the same as the hash of the address, so that a view can be shared.

const ALL = "*";
const FLAGS = ["every", "reverse"]; // every metric as a column; worst first

// The choices that there are. A metric is named by its column: classification and regression may each define it.
function choicesOf(board, state) {
  const inRun = board.entries.filter((entry) => state.run === ALL || entry.run === state.run);
  const inTask = inRun.filter((entry) => state.task === ALL || entry.task === state.task);
  const unique = (values) => [...new Set(values)];
  return {
    run: [...unique([board.first_run, ...board.made_from.map((source) => source.run)]), ALL],
    task: [ALL, ...unique(inRun.map((entry) => entry.task))],
    metric: unique(board.metrics.map((metric) => metric.column)).filter((column) =>
      inTask.some((entry) => isThere(entry.values[column])),
    ),
    cost: board.costs.map((cost) => cost.column).filter((name) => inTask.some((entry) => isThere(entry.cost[name]))),
  };
}

// The same state with every choice that there is not replaced by the first that there is.
function normalised(board, wanted) {
  const state = { ...wanted };
  for (const name of ["run", "task", "metric", "cost"]) {
    const choices = choicesOf(board, state)[name];
    if (!choices.includes(state[name])) state[name] = choices[0] ?? "";
  }
  if (wanted.cost && state.cost !== wanted.cost) state.max = null; // seconds are no gradients
  state.max = Number.isFinite(state.max) && state.max >= 0 ? state.max : null;
  const methods = state.methods ?? board.methods;
  state.methods = board.methods.filter((method) => methods.includes(method));
  state.sort = state.sort ?? "";
  for (const name of FLAGS) state[name] = Boolean(state[name]);
  return state;
}

function stateFromHash(board, hash) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const methods = given.getAll("method");
  return normalised(board, {
    run: given.get("run"),
    task: given.get("task"),
    metric: given.get("metric"),
    cost: given.get("cost"),
    max: given.get("max") ? Number(given.get("max")) : null,
    methods: methods.length ? methods : null,
    every: given.has("every"),
    sort: given.get("sort"),
    reverse: given.has("reverse"),
  });
}

// Only what differs from the first view; no method at all is `method=`.
function hashOfState(board, state) {
  const first = normalised(board, {});
  const parts = new URLSearchParams();
  for (const name of ["run", "task", "metric", "cost"]) {
    if (state[name] !== first[name]) parts.set(name, state[name]);
  }
  if (state.max !== null) parts.set("max", state.max);
  if (state.methods.length < board.methods.length) {
    for (const method of state.methods.length ? state.methods : [""]) parts.append("method", method);
  }
  if (state.sort) parts.set("sort", state.sort);
  for (const name of FLAGS) if (state[name]) parts.set(name, "1");
  return parts.toString();
}
