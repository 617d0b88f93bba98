// The table: one metric over all tasks, or everything of one task. A column says how it sorts and what its cells are.

// Lines and columns of one metric over tasks: a line a method and run, a column a task.
function acrossTasks(board, state, shown, entries) {
  const best = board.best(shown, state.metric);
  const lines = new Map();
  for (const entry of entries) {
    const key = JSON.stringify([entry.run, entry.label]);
    if (!lines.has(key)) lines.set(key, { entry, byTask: new Map() });
    lines.get(key).byTask.set(entry.task, entry);
  }
  const tasks = [...board.tasks.values()].filter((task) =>
    entries.some((entry) => entry.task === task.name && isThere(entry.values[state.metric])),
  );
  const affordable = new Set(shown);
  const wins = {
    key: "best",
    name: "Among the best",
    falling: true,
    about: `tasks of ${board.data.fewest_seeds} seeds or more on which it is the best or not told apart from it`,
    score: (line) => -[...line.byTask.values()].filter((entry) => best.has(entry) && !board.hasFewSeeds(entry)).length,
    fill: (line) => {
      const all = [...line.byTask.values()].filter(
        (entry) => affordable.has(entry) && isThere(entry.values[state.metric]) && !board.hasFewSeeds(entry),
      );
      return [`${all.filter((entry) => best.has(entry)).length} of ${all.length}`];
    },
  };
  const columns = tasks.map((task) =>
    valueColumn(
      board,
      `task:${task.name}`,
      task.name,
      board.metric(state.metric, task.name),
      best,
      (line) => line.byTask.get(task.name),
      affordable,
      shown.filter((entry) => entry.task === task.name),
    ),
  );
  const kept = [...lines.values()].filter((line) => [...line.byTask.values()].some((entry) => affordable.has(entry)));
  return { lines: kept, columns: [wins, ...columns], sort: "best" };
}

// Lines and columns of one task: a line an entry, a column a metric or a cost; the chosen metric first.
function withinTask(board, state, shown) {
  const there = (part, name) => shown.some((entry) => isThere(entry[part][name]));
  const kind = board.tasks.get(state.task)?.kind;
  const main = new Set([...board.data.main, state.metric]);
  const metrics = board.data.metrics.filter(
    (metric) =>
      metric.kinds.includes(kind) && there("values", metric.column) && (state.every || main.has(metric.column)),
  );
  metrics.sort((a, b) => (b.column === state.metric) - (a.column === state.metric));
  const columns = metrics.map((metric) =>
    valueColumn(
      board,
      `metric:${metric.column}`,
      metric.name,
      metric,
      board.best(shown, metric.column),
      (line) => line.entry,
      new Set(shown),
      shown,
    ),
  );
  const costs = [...board.costs.keys()]
    .filter((name) => there("cost", name))
    .map((name) => ({
      key: `cost:${name}`,
      name: board.costName(name),
      about: `${board.costs.get(name).unit}: ${board.costs.get(name).formula}`,
      score: (line) => (isThere(line.entry.cost[name]) ? line.entry.cost[name].mean : null),
      fill: (line) => (isThere(line.entry.cost[name]) ? cell(line.entry.cost[name]) : [MISSING]),
    }));
  return { lines: shown.map((entry) => ({ entry })), columns: [...columns, ...costs], sort: `metric:${state.metric}` };
}

function valueColumn(board, key, name, metric, best, entryOf, affordable, entries) {
  const digits = digitsFor(
    entries.filter((e) => isThere(e.values[metric.column])).map((e) => e.values[metric.column].mean),
  );
  const ordered = lossOf(metric, 0) !== null;
  return {
    key,
    name,
    about: `${metric.name}, ${metric.unit}, ${directionOf(metric)}`,
    falling: metric.direction === "higher",
    byDistance: ordered && !["lower", "higher"].includes(metric.direction),
    score: (line) => {
      const entry = entryOf(line);
      if (!entry || !affordable.has(entry) || !isThere(entry.values[metric.column])) return null;
      return ordered ? lossOf(metric, entry.values[metric.column].mean) : entry.values[metric.column].mean;
    },
    isBest: (line) => best.has(entryOf(line)),
    fill: (line) => {
      const entry = entryOf(line);
      if (!entry) return [MISSING];
      if (!affordable.has(entry)) return [h("span", { class: "muted" }, "over budget")];
      if (!isThere(entry.values[metric.column])) return [unfinished(entry)];
      return cell(entry.values[metric.column], digits);
    },
  };
}

const cell = (value, digits) => [spread(value, digits), h("span", { class: "n" }, ` n=${value.n}`)];

// What stands where a number is not: how the runs ended, the reasons at the pointer and in the list below the table.
function unfinished(entry) {
  const ends = Object.keys(entry.status).filter((status) => status !== "done" && entry.status[status] > 0);
  return ends.length ? h("span", { class: "muted", title: entry.reasons.join("\n") }, ends.join(", ")) : MISSING;
}

function methodColumn(board) {
  return {
    key: "method",
    name: "Method",
    score: (line) => line.entry.label,
    fill: (line) => [labelled(board, line.entry.method, line.entry.label)],
  };
}

const runColumn = { key: "run", name: "Run", score: (line) => line.entry.run, fill: (line) => [line.entry.run] };

const rowsColumn = {
  key: "",
  name: "Rows",
  fill: (line) => [h("a", { href: line.entry.rows, "aria-label": `rows of ${line.entry.run}` }, "rows")],
};

const seedsColumn = {
  key: "seeds",
  name: "Seeds",
  about: "finished, of all",
  falling: true,
  score: (line) => -(line.entry.status.done ?? 0),
  fill: (line) => {
    const done = line.entry.status.done ?? 0;
    const all = Object.values(line.entry.status).reduce((a, b) => a + b, 0);
    return [done === all ? `${all}` : `${done} of ${all}`];
  },
};

// Best first; what has no number last, in either direction; ties in the order of the labels.
function sorted(lines, column, reverse) {
  const sign = reverse ? -1 : 1;
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
  return lines
    .map((line) => [column.score(line), line])
    .sort(([a, one], [b, other]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * compare(a, b) || one.entry.label.localeCompare(other.entry.label, "en", { numeric: true });
    })
    .map(([, line]) => line);
}

function resultsTable(board, state, shown, entries, onSort) {
  const view = state.task === ALL ? acrossTasks(board, state, shown, entries) : withinTask(board, state, shown);
  const columns = [
    methodColumn(board),
    ...(state.run === ALL ? [runColumn] : []),
    ...view.columns,
    ...(state.task === ALL ? [] : [seedsColumn]),
    rowsColumn,
  ];
  const sortable = columns.filter((column) => column.key);
  const by =
    sortable.find((column) => column.key === state.sort) ??
    sortable.find((column) => column.key === view.sort) ??
    sortable[0];
  const heads = columns.map((column) => head(column, by, state, onSort));
  const body = sorted(view.lines, by, state.reverse).map((line) =>
    h(
      "tr",
      {},
      columns.map((column, i) => {
        const best = column.isBest?.(line);
        const content = column.fill(line);
        if (i === 0) return h("th", { scope: "row" }, content);
        const mark = best ? [h("span", { class: "hidden" }, " among the best")] : [];
        return h(
          "td",
          { class: [best && "best", column === by && "by"].filter(Boolean).join(" ") || null },
          content,
          mark,
        );
      }),
    ),
  );
  const caption =
    state.task === ALL
      ? `${nameOf(board, state.metric)} of every method on every task, mean ± standard deviation over n seeds`
      : `Every method on ${state.task}, mean ± standard deviation over n seeds`;
  const table = h(
    "table",
    {},
    h("caption", {}, h("span", {}, caption)),
    h("thead", {}, h("tr", {}, heads)),
    h("tbody", {}, body),
  );
  return { table, by, n: body.length };
}

function head(column, by, state, onSort) {
  if (!column.key) return h("th", { scope: "col" }, column.name);
  const falling = Boolean(column.falling) !== state.reverse;
  const order = column.byDistance ? "other" : falling ? "descending" : "ascending";
  const chosen = column === by;
  const reverse = chosen && !state.reverse;
  return h(
    "th",
    { scope: "col", "aria-sort": chosen ? order : null, class: chosen ? "by" : null },
    h(
      "button",
      { type: "button", "data-key": column.key, title: column.about, onclick: () => onSort(column.key, reverse) },
      column.name,
      h("span", { class: "arrow", "aria-hidden": "true" }, chosen ? (falling ? "▼" : "▲") : ""),
    ),
  );
}

const nameOf = (board, column) => board.data.metrics.find((metric) => metric.column === column)?.name ?? column;
