// A box that is wider than its place can be scrolled by keyboard: Tab reaches it, the arrow keys move it.
const wide = {
  pre: "Text", // the last that fits counts
  ".cell_input pre": "Code",
  ".cell_output, .cell_output pre": "Output",
  ".table-wrapper": "Table",
  "mjx-container": "Formula",
};

function reach() {
  const names = new Map();
  for (const [boxes, name] of Object.entries(wide))
    for (const box of document.querySelectorAll(boxes)) names.set(box, name);
  for (const [box, name] of names) {
    const added = { tabindex: "0", role: "group", "aria-label": name };
    for (const [attribute, value] of Object.entries(added))
      if (box.scrollWidth > box.clientWidth) box.setAttribute(attribute, value);
      else box.removeAttribute(attribute);
  }
}

// The article's size changes with the window, with a formula that is drawn, with an answer that is opened.
new ResizeObserver(reach).observe(document.querySelector("article"));
