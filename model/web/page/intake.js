/** How files come in: chosen, dropped anywhere on the page, or pasted. */
import { find } from "./dom.js";

/** @param {(files: File[]) => void} take */
function watchIntake(take) {
  const chooser = find("input", "#files"), place = document.documentElement.classList;
  chooser.addEventListener("change", () => {
    take([...chooser.files ?? []]);
    chooser.value = ""; // the same file may be chosen again
  });
  document.addEventListener("paste", ({ clipboardData }) => {
    if (clipboardData?.files.length) take([...clipboardData.files]);
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    place.add("over");
  });
  document.addEventListener("dragleave", ({ relatedTarget }) => {
    if (!relatedTarget) place.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    place.remove("over");
    take([...event.dataTransfer?.files ?? []]);
  });
}

export { watchIntake };
