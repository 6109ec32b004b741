"use strict";
// Figures and tables need none of this: it only switches lines off and on, and unfolds what is folded for printing.
for (const button of document.querySelectorAll(".legend button")) {
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    const lines = button.closest("figure").querySelectorAll(`g[data-agent="${button.dataset.agent}"]`);
    for (const line of lines) line.classList.toggle("off", !on);
  });
}
const folded = [];
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details:not([open])")) {
    part.open = true;
    folded.push(part);
  }
});
addEventListener("afterprint", () => {
  for (const part of folded.splice(0)) part.open = false;
});
