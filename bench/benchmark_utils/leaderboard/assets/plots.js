// The plots of all shown runs and tasks, side by side, each with its reading of the point in hand.

function drawPlots(board, state, shown) {
  const front = board.front(shown, state.metric, state.cost);
  const groups = byPlace(
    shown.filter(
      (entry) =>
        isThere(entry.values[state.metric]) &&
        isThere(entry.cost[state.cost]) &&
        board.metric(state.metric, entry.task),
    ),
  );
  const box = byId("plots");
  box.classList.toggle("single", groups.length === 1);
  box.replaceChildren(...groups.map((group) => figure(board, state, group, front)));
  for (const part of box.children) part.draw?.();
  if (!groups.length)
    box.replaceChildren(
      h("p", { class: "muted" }, "Nothing to plot: no shown entry has both this metric and this cost."),
    );
  const cost = board.costs.get(state.cost);
  byId("plot-notes").textContent = cost
    ? `${cost.name}, ${cost.unit}: ${cost.formula}. Bars: one standard deviation over seeds. Line: the Pareto ` +
      "front of what is shown, than which nothing is both better and no dearer."
    : "";
  const methods = board.data.methods.filter((method) => groups.flat().some((entry) => entry.method === method));
  byId("legend").replaceChildren(
    ...methods.map((method) => h("span", { class: "method" }, methodMark(board, method), method)),
  );
}

function figure(board, state, group, front) {
  const [{ run, task }] = group;
  const metric = board.metric(state.metric, task);
  const points = group
    .map((entry) => ({
      entry,
      cost: entry.cost[state.cost],
      value: entry.values[state.metric],
      isFront: front.has(entry),
    }))
    .sort((a, b) => a.cost.mean - b.cost.mean || a.value.mean - b.value.mean);
  const title = state.run === ALL ? `${task} (${run})` : task;
  const tip = h("div", { class: "tip", hidden: true, "aria-hidden": "true" });
  const stage = h("div", { class: "stage" });
  const beyond = h("p", { class: "note" });
  const arrow = metric.direction === "lower" ? "↓" : metric.direction === "higher" ? "↑" : "→";
  const element = h(
    "figure",
    { "data-task": task, "data-run": run },
    h(
      "figcaption",
      {},
      h("h3", {}, title),
      h("span", { class: "muted" }, `${metric.name}, ${metric.unit} (${arrow} ${directionOf(metric)})`),
    ),
    stage,
    beyond,
  );
  const onShow = (shown) => {
    tip.hidden = shown === null;
    if (shown === null) return;
    tip.replaceChildren(...readingOf(board, shown.point, metric, state.cost).map((line) => h("div", {}, line)));
    const left = Math.min(Math.max(0, shown.x - tip.offsetWidth / 2), stage.clientWidth - tip.offsetWidth);
    const above = shown.y - tip.offsetHeight - 14;
    tip.style.left = `${Math.max(0, left)}px`;
    tip.style.top = `${above >= 0 ? above : shown.y + 14}px`;
  };
  element.draw = () => {
    const width = Math.max(240, stage.clientWidth);
    if (element.drawn === width) return;
    element.drawn = width;
    const height = Math.round(Math.min(420, Math.max(240, width * 0.62)));
    stage.replaceChildren(drawPlot(board, points, { width, height, title, metric, cost: state.cost, onShow }), tip);
    const out = points.filter((point) => point.isBeyond);
    beyond.textContent = out.length
      ? `Beyond the axis: ${out.map((point) => `${point.entry.label} (${spread(point.value)})`).join(", ")}.`
      : "";
  };
  return element;
}
