// One plot: cost on a log axis against a metric, with standard deviations, the Pareto front, and what each point says.

const MARGIN = { top: 12, right: 14, bottom: 36, left: 52 };
const GUTTER = 26; // room at the left for a cost of nothing, which has no place on a log axis

// From data to pixels, [low, high] with ticks.
function logScale(values, from, to) {
  const low = Math.log10(Math.min(...values)),
    high = Math.log10(Math.max(...values));
  const pad = Math.max(0.08, (high - low) * 0.06);
  const [a, b] = [low - pad, high + pad];
  const ticks = [];
  const steps = b - a > 1.6 ? [1] : b - a > 0.7 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9];
  for (let power = Math.floor(a); power <= Math.ceil(b); power++) {
    for (const step of steps) {
      const exponent = power + Math.log10(step);
      if (exponent >= a && exponent <= b) ticks.push(10 ** exponent);
    }
  }
  const every = Math.ceil(ticks.length / Math.max(2, (to - from) / 48)); // as many as there is room for
  return {
    ticks: ticks.filter((_, i) => i % every === 0),
    at: (value) => (value > 0 ? from + ((Math.log10(value) - a) / (b - a)) * (to - from) : from),
  };
}

function linearScale(low, high, from, to) {
  const pad = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
  const [a, b] = [low - pad, high + pad];
  const rough = (b - a) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const ticks = [];
  for (let i = Math.ceil(a / step); i * step <= b; i++) ticks.push(i * step);
  return {
    ticks,
    digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)),
    at: (value) => from + ((value - a) / (b - a)) * (to - from),
  };
}

// The range in which the plot is legible: a point far beyond most of the others, on either side, does not set it.
function legibleRange(means) {
  const order = [...means].sort((a, b) => a - b);
  const at = (share) => order[Math.round(share * (order.length - 1))];
  const reach = 2.5 * Math.max(at(0.75) - at(0.25), 1e-12);
  return [order.find((value) => value >= at(0.25) - reach), order.findLast((value) => value <= at(0.75) + reach)];
}

// Points of one run and task, as svg; `points` in the order of their cost: {entry, cost, value, isFront}.
function drawPlot(board, points, { width, height, title, metric, cost, onShow }) {
  const plot = { left: MARGIN.left, right: width - MARGIN.right, top: MARGIN.top, bottom: height - MARGIN.bottom };
  const costs = points.map((point) => point.cost.mean).filter((value) => value > 0);
  const isFree = points.some((point) => point.cost.mean <= 0);
  const x = logScale(costs.length ? costs : [1], plot.left + (isFree ? GUTTER : 0), plot.right);
  const [low, high] = legibleRange(points.map((point) => point.value.mean));
  const inside = points.filter((point) => point.value.mean >= low && point.value.mean <= high);
  const sd = (point) => Math.min(hasSpread(point.value) ? point.value.sd : 0, high - low || Infinity);
  const y = linearScale(
    Math.min(...inside.map((point) => point.value.mean - sd(point))),
    Math.max(...inside.map((point) => point.value.mean + sd(point))),
    plot.bottom,
    plot.top,
  );
  const atX = (point) => (point.cost.mean > 0 ? x.at(point.cost.mean) : plot.left + GUTTER / 2);
  const atY = (point) => Math.min(plot.bottom - 1, Math.max(plot.top + 1, y.at(point.value.mean)));
  for (const point of points) point.isBeyond = !inside.includes(point);

  const clip = `clip-${(drawPlot.count = (drawPlot.count ?? 0) + 1)}`;
  const axes = [
    ...y.ticks.map((tick) =>
      h(
        "g",
        { class: "tick" },
        h("line", { x1: plot.left, x2: plot.right, y1: y.at(tick), y2: y.at(tick) }),
        h("text", { x: plot.left - 6, y: y.at(tick) + 4, "text-anchor": "end" }, fixed(tick, y.digits)),
      ),
    ),
    ...x.ticks.map((tick) =>
      h(
        "g",
        { class: "tick" },
        h("line", { x1: x.at(tick), x2: x.at(tick), y1: plot.top, y2: plot.bottom }),
        h("text", { x: x.at(tick), y: plot.bottom + 15, "text-anchor": "middle" }, compact(tick)),
      ),
    ),
    isFree
      ? h("text", { class: "zero", x: plot.left + GUTTER / 2, y: plot.bottom + 15, "text-anchor": "middle" }, "0")
      : null,
    h(
      "text",
      { class: "axis", x: plot.right, y: height - 4, "text-anchor": "end" },
      `${board.costName(cost)}, log scale →`,
    ),
  ];
  const bars = points.map((point) => [
    hasSpread(point.value)
      ? h("line", {
          class: "bar",
          x1: atX(point),
          x2: atX(point),
          y1: y.at(point.value.mean - point.value.sd),
          y2: y.at(point.value.mean + point.value.sd),
        })
      : null,
    hasSpread(point.cost) && point.cost.mean > 0 && !point.isBeyond
      ? h("line", {
          class: "bar",
          y1: atY(point),
          y2: atY(point),
          x1: x.at(Math.max(point.cost.mean - point.cost.sd, 0)),
          x2: x.at(point.cost.mean + point.cost.sd),
        })
      : null,
  ]);
  const front = points.filter((point) => point.isFront && !point.isBeyond);
  const path = front.map((point, i) => (i ? `H${atX(point)}V${atY(point)}` : `M${atX(point)},${atY(point)}`)).join("");
  const marks = points.map((point, i) =>
    h(
      "g",
      {
        class: ["point", point.isFront && "front", point.isBeyond && "beyond"].filter(Boolean).join(" "),
        transform: `translate(${atX(point)},${atY(point)})`,
        role: "img",
        tabindex: i ? "-1" : "0",
        "aria-label": readingOf(board, point, metric, cost).join(", "),
      },
      h("circle", { class: "halo", r: "11" }),
      markPath(board, point.entry.method),
    ),
  );
  const svg = h(
    "svg",
    {
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      role: "group",
      "aria-label":
        `${title}: ${metric.name} against ${board.costName(cost)} of ${plural(points.length, "result")}; ` +
        "arrow keys go from point to point",
    },
    h(
      "defs",
      {},
      h(
        "clipPath",
        { id: clip },
        h("rect", { x: plot.left, y: plot.top, width: plot.right - plot.left, height: plot.bottom - plot.top }),
      ),
    ),
    axes,
    h("g", { "clip-path": `url(#${clip})` }, bars, h("path", { class: "front-line", d: path || "M0,0" })),
    marks,
    frontLabels(
      front.map((point) => [point, atX(point), atY(point)]),
      points.map((point) => [atX(point), atY(point)]),
      plot,
    ),
  );
  steer(svg, marks, (i) => onShow(i === null ? null : { point: points[i], x: atX(points[i]), y: atY(points[i]) }));
  return svg;
}

// What a point says, in lines.
function readingOf(board, point, metric, cost) {
  return [
    point.entry.label,
    `${metric.name} ${spread(point.value)} (${plural(point.value.n, "seed")})`,
    `${board.costName(cost)} ${spread(point.cost)}`,
    ...(point.isFront ? ["on the Pareto front"] : []),
    ...(point.isBeyond ? ["beyond the axis"] : []),
  ];
}

// One tab stop a plot; arrows, Home and End move along the cost.
function steer(svg, marks, show) {
  const focus = (i) => {
    marks.forEach((mark, j) => mark.setAttribute("tabindex", i === j ? "0" : "-1"));
    marks[i].focus();
  };
  marks.forEach((mark, i) => {
    mark.addEventListener("focus", () => show(i));
    mark.addEventListener("blur", () => show(null));
    mark.addEventListener("pointerenter", () => show(i));
    mark.addEventListener("pointerleave", () => show(null));
    mark.addEventListener("click", () => focus(i));
    mark.addEventListener("keydown", (event) => {
      const to = {
        ArrowRight: i + 1,
        ArrowDown: i + 1,
        ArrowLeft: i - 1,
        ArrowUp: i - 1,
        Home: 0,
        End: marks.length - 1,
      }[event.key];
      if (event.key === "Escape") show(null);
      if (to === undefined) return;
      event.preventDefault();
      focus(Math.min(marks.length - 1, Math.max(0, to)));
    });
  });
}

// Names of the points on the front, each where it covers no point and no other name, or not at all.
function frontLabels(front, points, plot) {
  const taken = points.map(([x, y]) => [x - 6, y - 6, x + 6, y + 6]);
  return front.flatMap(([point, x, y]) => {
    const name = point.entry.label.length < 28 ? point.entry.label : `${point.entry.method}[…]`;
    const width = 6.3 * name.length,
      half = 7;
    for (const [dx, dy] of [
      [10, -9],
      [10, 12],
      [-10 - width, 12],
      [-10 - width, -9],
      [-width / 2, 20],
      [-width / 2, -18],
    ]) {
      const box = [x + dx, y + dy - half, x + dx + width, y + dy + half];
      if (box[0] < plot.left || box[2] > plot.right + MARGIN.right || box[1] < 0 || box[3] > plot.bottom) continue;
      if (taken.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3]))
        continue;
      taken.push(box);
      return [h("text", { class: "name", x: box[0], y: y + dy + 4 }, name)];
    }
    return [];
  });
}
