// A page that was found by the search opens at what was found. (Sphinx marks the words and stays at the top.)
function open_at(words) {
  const texts = new Set(words.map((word) => word.textContent.toLowerCase()));
  const around = (word) => (word.closest("p, li, tr, pre") ?? word.parentElement).textContent.toLowerCase();
  const all = words.find((word) => [...texts].every((text) => around(word).includes(text)));
  (all ?? words[0]).scrollIntoView({ block: "center" });
}

new MutationObserver((_, marks) => {
  const words = [...document.querySelectorAll("article span.highlighted")];
  if (words.length === 0) return;
  marks.disconnect();
  const seen = words.filter((word) => word.checkVisibility()); // not in a folded answer
  if (seen.length && !location.hash) open_at(seen);
}).observe(document.querySelector("article"), { childList: true, subtree: true });
