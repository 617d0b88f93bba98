// A method's colour and shape, the same in the table, the legend and every plot.

const SHAPES = [
  "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0Z", // circle
  "M-4.4,-4.4H4.4V4.4H-4.4Z", // square
  "M0,-5.6L5.4,4.4H-5.4Z", // triangle
  "M0,-6L6,0L0,6L-6,0Z", // diamond
  "M0,5.6L5.4,-4.4H-5.4Z", // triangle on its point
  "M-1.9,-5.5H1.9V-1.9H5.5V1.9H1.9V5.5H-1.9V1.9H-5.5V-1.9H-1.9Z", // plus
  "M0,-5.8L5.5,-1.8L3.4,4.7H-3.4L-5.5,-1.8Z", // pentagon
];

function markPath(board, method) {
  const index = Math.max(0, board.data.methods.indexOf(method));
  const colour = board.data.colours[method];
  // Black would be lost on a dark page: there it is the colour of the text.
  return h("path", {
    d: SHAPES[index % SHAPES.length],
    class: "mark",
    "--c": colour === "#000000" ? "var(--ink)" : colour,
  });
}

// A method with its settings, if its label has any, in brackets: they may break and stand smaller.
function labelled(board, method, label) {
  const at = label.indexOf("[");
  const [name, settings] = at < 0 ? [label, ""] : [label.slice(0, at), label.slice(at)];
  return h(
    "span",
    { class: "method" },
    methodMark(board, method),
    h("span", {}, name),
    settings ? h("span", { class: "settings" }, settings) : null,
  );
}

function methodMark(board, method) {
  return h(
    "svg",
    { class: "swatch", viewBox: "-8 -8 16 16", width: "16", height: "16", "aria-hidden": "true" },
    markPath(board, method),
  );
}
