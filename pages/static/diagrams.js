// Draws the diagrams in the page's colours, and again when the reader switches between light and dark.
const diagrams = [...document.querySelectorAll("pre.mermaid")];
for (const one of diagrams) one.dataset.text = one.textContent;

async function draw() {
  const theme = document.body.dataset.theme;
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const dark = (theme === "auto" ? system : theme) === "dark";
  // text on an arrow stands on the page's own ground, not on grey
  const ground = getComputedStyle(document.body).backgroundColor;
  const themeVariables = { edgeLabelBackground: ground };
  mermaid.initialize({ startOnLoad: false, theme: dark ? "dark" : "default", themeVariables });
  for (const one of diagrams) {
    one.removeAttribute("data-processed");
    one.textContent = one.dataset.text;
  }
  await mermaid.run({ nodes: diagrams });
  for (const svg of document.querySelectorAll("pre.mermaid svg")) {
    const full = parseFloat(svg.style.maxWidth);
    // it scrolls where it would shrink beyond reading
    svg.style.minWidth = `${Math.min(full, Math.max(700, 0.55 * full))}px`;
  }
}

document.addEventListener("DOMContentLoaded", () => {
  draw();
  new MutationObserver(draw).observe(document.body, { attributeFilter: ["data-theme"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
});
