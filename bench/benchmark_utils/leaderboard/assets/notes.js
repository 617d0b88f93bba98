// What stands around the numbers: the metric's definition, average ranks, what did not finish, and the sources.

function showDefinition(board, state) {
  const kinds = new Set(board.chosen(state).map((entry) => board.tasks.get(entry.task)?.kind));
  const metrics = board.data.metrics.filter(
    (metric) => metric.column === state.metric && metric.kinds.some((kind) => kinds.has(kind)));
  byId("definition").replaceChildren(...metrics.map((metric) => h("p", {},
    h("strong", {}, metric.name), " ", h("span", { class: "muted" }, metric.kinds.join(" and ")), " ",
    h("code", { class: "formula" }, metric.formula), " ",
    h("span", {}, `${metric.unit}; ${directionOf(metric)}; definition `, h("code", {}, metric.id)))));
}

// Average ranks with the critical difference as a band from the best one.
function showRanks(board, state) {
  const found = board.data.ranks.filter((ranks) => ranks.metric === state.metric && ranks.methods.length);
  byId("ranks").replaceChildren(...(found.length ? found.map((ranks) => rankTable(board, ranks))
    : [h("p", { class: "muted" }, "None were computed for this metric: they need methods that finished on the same tasks.")]));
}

function rankTable(board, ranks) {
  const methods = [...ranks.methods].sort((a, b) => a.mean_rank - b.mean_rank);
  const best = methods[0].mean_rank;
  const last = Math.max(methods.length, methods.at(-1).mean_rank);
  const place = (rank) => `${(100 * (rank - 1)) / Math.max(1, last - 1)}%`;
  const reach = ranks.critical_difference;
  const isNear = (method) => Number.isFinite(reach) && method.mean_rank - best <= reach;
  const band = () => (Number.isFinite(reach)
    ? h("rect", { class: "band", x: place(best), y: "0", height: "100%", width: `${(100 * Math.min(reach, last - best)) / Math.max(1, last - 1)}%` }) : null);
  const lines = methods.map((method) => h("tr", {},
    h("th", { scope: "row" }, h("span", { class: "method" }, methodMark(board, method.method), h("span", { class: "label" }, method.label))),
    h("td", { class: isNear(method) ? "best" : null }, fixed(method.mean_rank, 2), isNear(method) ? h("span", { class: "hidden" }, " not told apart from the best") : null),
    h("td", { class: "strip", "aria-hidden": "true" }, h("svg", { width: "100%", height: "22" }, band(),
      h("line", { x1: "0", x2: "100%", y1: "11", y2: "11" }), h("circle", { cx: place(method.mean_rank), cy: "11", r: "4.5" })))));
  const difference = Number.isFinite(reach)
    ? `critical difference ${fixed(reach, 2)}: methods whose average ranks differ by less are not told apart, the band shows those near the best`
    : "too few for a critical difference";
  return h("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": `Average ranks, ${ranks.kind}` }, h("table", { class: "ranks" },
    h("caption", {}, `${nameOf(board, ranks.metric)}, ${ranks.kind}: average rank over ${plural(ranks.n_blocks, "block")} (1 is best), whatever the filters; ${difference}.`),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Method"), h("th", { scope: "col" }, "Rank"),
      h("th", { scope: "col", "aria-hidden": "true" }, h("span", { class: "ends" }, h("span", {}, "1"), h("span", {}, `${Math.round(last)}`))))),
    h("tbody", {}, lines)));
}

// A line for each place, end and reason, with the methods that it befell.
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
  const lines = [...found.values()].map(({ entry, how, reason, labels }) => h("tr", {},
    h("th", { scope: "row" }, entry.task), h("td", {}, entry.run), h("td", {}, how), h("td", { class: "words" }, labels.join(", ")), h("td", { class: "words" }, reason)));
  byId("failures").replaceChildren(lines.length ? wordTable("What did not finish", ["Task", "Run", "End", "Methods", "Reason"], lines)
    : h("p", { class: "muted" }, "Everything that is shown finished."));
}

function wordTable(name, heads, lines) {
  return h("div", { class: "scroll", role: "region", "aria-label": name, tabindex: "0" }, h("table", { class: "wordy" },
    h("thead", {}, h("tr", {}, heads.map((text) => h("th", { scope: "col" }, text)))), h("tbody", {}, lines)));
}

function showSources(board) {
  const runs = board.data.made_from.map((source) => h("li", {}, h("a", { href: source.rows }, source.run),
    `: ${plural(source.n_rows, "row")}`, source.commit ? [", made at commit ", h("code", {}, source.commit.slice(0, 12))] : null));
  const tasks = board.data.tasks.map((task) => h("tr", {}, h("th", { scope: "row" }, task.name), h("td", {}, task.kind),
    ...["n_train", "n_test", "n_params"].map((name) => h("td", { class: "number" }, Number.isFinite(task[name]) ? fixed(task[name], 0) : MISSING)),
    h("td", {}, task.runs.join(", ")),
    h("td", { class: "words" }, h("code", { title: task.dataset_sha256 ?? "" }, (task.dataset_sha256 ?? "").slice(0, 12) || MISSING),
      task.dataset_matches === false ? h("strong", { class: "warning" }, " not the expected content: not comparable") : null)));
  byId("sources").replaceChildren(h("ul", {}, runs),
    h("details", {}, h("summary", {}, `${plural(tasks.length, "task")} and their data`),
      wordTable("Tasks", ["Task", "Kind", "Training", "Test", "Weights", "Runs", "Data, SHA-256"], tasks)));
}
