// What stands around the numbers: the metric's definition, average ranks, what did not finish, and the sources.

function showDefinition(board, state) {
  const kinds = new Set(board.chosen(state).map((entry) => board.tasks.get(entry.task)?.kind));
  const metrics = board.data.metrics.filter(
    (metric) => metric.column === state.metric && metric.kinds.some((kind) => kinds.has(kind)),
  );
  byId("definition").replaceChildren(
    ...metrics.map((metric) =>
      h(
        "p",
        {},
        h("strong", {}, metric.name),
        " ",
        h("span", { class: "muted" }, metric.kinds.join(" and ")),
        " ",
        h("code", { class: "formula" }, metric.formula),
        " ",
        h("span", {}, `${metric.unit}; ${directionOf(metric)}; definition `, h("code", {}, metric.id)),
      ),
    ),
  );
}

// What a marked number means, and where there are too few seeds for it.
function showMarks(board, state, entries) {
  const few = byPlace(entries)
    .map(([first]) => first)
    .filter((entry) => board.hasFewSeeds(entry) && board.seeds.get(placeOf(entry)).size > 0)
    .map((entry) => (state.run === ALL ? `${entry.task} (${entry.run})` : entry.task));
  const fewest = board.data.fewest_seeds;
  byId("table-notes").textContent =
    "Bold on a tint: among the best of its task and run, whatever the filters. That is the lowest mean loss, and " +
    "every method whose mean difference from it, seed by seed on the same splits, has a 95 % t-interval that " +
    `contains 0. It takes ${fewest} seeds in common; a method that failed or diverged on a seed where others did not is never marked.` +
    (few.length
      ? ` Too few seeds, so that only the best itself is marked, and counts nowhere: ${few.join(", ")}.`
      : "");
}

// Average ranks with the critical difference as a band from the best one.
function showRanks(board, state) {
  const found = board.data.ranks.filter((ranks) => ranks.metric === state.metric && ranks.methods.length);
  byId("ranks").replaceChildren(
    ...(found.length
      ? found.map((ranks) => rankTable(board, ranks))
      : [
          h(
            "p",
            { class: "muted" },
            "None were computed for this metric: they need methods that finished on the same tasks.",
          ),
        ]),
  );
}

function rankTable(board, ranks) {
  const methods = [...ranks.methods].sort((a, b) => a.mean_rank - b.mean_rank);
  const best = methods[0].mean_rank;
  const last = Math.max(methods.length, methods.at(-1).mean_rank);
  const place = (rank) => `${(100 * (rank - 1)) / Math.max(1, last - 1)}%`;
  const reach = ranks.critical_difference;
  const isNear = (method) => Number.isFinite(reach) && method.mean_rank - best <= reach;
  const band = () =>
    Number.isFinite(reach)
      ? h("rect", {
          class: "band",
          x: place(best),
          y: "0",
          height: "100%",
          width: `${(100 * Math.min(reach, last - best)) / Math.max(1, last - 1)}%`,
        })
      : null;
  const lines = methods.map((method) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, labelled(board, method.method, method.label)),
      h(
        "td",
        { class: isNear(method) ? "best" : null },
        fixed(method.mean_rank, 2),
        isNear(method) ? h("span", { class: "hidden" }, " not told apart from the best") : null,
      ),
      h(
        "td",
        { class: "strip", "aria-hidden": "true" },
        h(
          "svg",
          { width: "100%", height: "22" },
          band(),
          h("line", { x1: "0", x2: "100%", y1: "11", y2: "11" }),
          h("circle", { cx: place(method.mean_rank), cy: "11", r: "4.5" }),
        ),
      ),
    ),
  );
  const difference = Number.isFinite(reach)
    ? `critical difference ${fixed(reach, 2)}: ranks that differ by less are not told apart, the band is from the best`
    : "too few for a critical difference";
  const { methods: leftMethods = [], tasks: leftTasks = [] } = ranks.left_out ?? {};
  const left = [...leftMethods, ...leftTasks];
  return h(
    "div",
    { class: "scroll", role: "region", tabindex: "0", "aria-label": `Average ranks, ${ranks.kind}` },
    h(
      "table",
      { class: "ranks" },
      h(
        "caption",
        {},
        `${nameOf(board, ranks.metric)}, ${ranks.kind}: average rank over ${plural(ranks.n_blocks, "block")}, ` +
          `1 is best, whatever the filters; ${difference}.` +
          (ranks.runs ? ` Of the run${ranks.runs.length > 1 ? "s together" : ""}: ${ranks.runs.join(", ")}.` : "") +
          (ranks.tasks ? ` On ${ranks.tasks.join(", ")}.` : "") +
          (left.length ? ` Left out, for lack of results: ${left.join(", ")}.` : ""),
      ),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", { scope: "col" }, "Method"),
          h("th", { scope: "col" }, "Rank"),
          h(
            "th",
            { scope: "col", "aria-hidden": "true" },
            h("span", { class: "ends" }, h("span", {}, "1"), h("span", {}, `${Math.round(last)}`)),
          ),
        ),
      ),
      h("tbody", {}, lines),
    ),
  );
}

// A line for each run, end and reason, with the methods that it befell and the tasks on which it befell just these.
function showFailures(board, entries) {
  const found = new Map();
  for (const entry of entries) {
    const ends = Object.entries(entry.status).filter(([status, n]) => status !== "done" && n > 0);
    if (!ends.length) continue;
    const how = ends.map(([status, n]) => `${status} (${plural(n, "seed")})`).join(", ");
    const reason = entry.reasons.join("; ") || "no reason given";
    const key = JSON.stringify([entry.run, entry.task, how, reason]);
    if (!found.has(key)) found.set(key, { entry, how, reason, labels: [] });
    found.get(key).labels.push(entry.label);
  }
  const merged = new Map();
  for (const { entry, how, reason, labels } of found.values()) {
    const key = JSON.stringify([entry.run, how, reason, labels]);
    if (!merged.has(key)) merged.set(key, { run: entry.run, how, reason, labels, tasks: [] });
    merged.get(key).tasks.push(entry.task);
  }
  const lines = [...merged.values()].map(({ run, how, reason, labels, tasks }) => [
    labels.join(", "),
    how,
    reason,
    tasks.join(", "),
    run,
  ]);
  byId("failures").replaceChildren(
    lines.length
      ? wordTable("What did not finish", ["Methods", "End", "Reason", "Tasks", "Run"], lines)
      : h("p", { class: "muted" }, "Everything that is shown finished."),
  );
}

// A table of words, each line an array of cells, the first its head; a narrow screen stacks the cells (page.css), and
// then the roles keep it a table for whoever listens to it, and each cell shows the head of its column.
function wordTable(name, heads, lines) {
  const cellOf = (content, i) =>
    h(i ? "td" : "th", { role: i ? "cell" : "rowheader", scope: i ? null : "row", "data-head": heads[i] }, content);
  return h(
    "div",
    { class: "scroll", role: "region", "aria-label": name, tabindex: "0" },
    h(
      "table",
      { class: "wordy", role: "table" },
      h(
        "thead",
        { role: "rowgroup" },
        h(
          "tr",
          { role: "row" },
          heads.map((text) => h("th", { scope: "col", role: "columnheader" }, text)),
        ),
      ),
      h(
        "tbody",
        { role: "rowgroup" },
        lines.map((cells) => h("tr", { role: "row" }, cells.map(cellOf))),
      ),
    ),
  );
}

function showSources(board) {
  const runs = board.data.made_from.map((source) =>
    h(
      "li",
      {},
      h("a", { href: source.rows }, source.run),
      `: ${plural(source.n_rows, "row")}`,
      source.commit ? [", made at commit ", h("code", {}, source.commit.slice(0, 12))] : null,
    ),
  );
  const tasks = board.data.tasks.map((task) => [
    task.name,
    task.kind,
    ...["n_train", "n_test", "n_params"].map((name) => (Number.isFinite(task[name]) ? fixed(task[name], 0) : MISSING)),
    task.runs.join(", "),
    [
      h("code", { title: task.dataset_sha256 }, (task.dataset_sha256 ?? "").slice(0, 12) || MISSING),
      task.dataset_matches === false
        ? h("strong", { class: "warning" }, " not the expected content: not comparable")
        : null,
    ],
  ]);
  byId("sources").replaceChildren(
    h("ul", {}, runs),
    h(
      "details",
      {},
      h("summary", {}, `${plural(tasks.length, "task")} and their data`),
      wordTable("Tasks", ["Task", "Kind", "Training", "Test", "Weights", "Runs", "Data, SHA-256"], tasks),
    ),
  );
}
