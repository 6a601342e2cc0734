// A second volume, dropped on a page that `restore view` serves, goes to that server and nowhere else; it is compared
// there, and the page is loaded anew. What is wrong with the file comes back as a sentence.
"use strict";

(() => {
  const place = document.getElementById("drop");
  const message = document.getElementById("drop-message");
  const choice = document.getElementById("drop-file");
  if (!place) return;

  const say = (text, failed) => {
    message.textContent = text;
    place.classList.toggle("failed", failed);
  };
  const send = async (file) => {
    say(`reading ${file.name} ...`, false);
    try {
      const answer = await fetch("compare", { method: "POST", body: file, headers: { "X-Name": encodeURIComponent(file.name) } });
      if (answer.ok) location.reload();
      else say(await answer.text(), true);
    } catch (error) {
      say(`the server does not answer (${error.message}): is \`restore view\` still running?`, true);
    }
  };
  const files = (event) => [...(event.dataTransfer?.files ?? [])];
  for (const kind of ["dragenter", "dragover"]) {
    addEventListener(kind, (event) => { event.preventDefault(); place.classList.add("over"); });
  }
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) place.classList.remove("over"); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    place.classList.remove("over");
    const dropped = files(event);
    if (dropped.length === 1) send(dropped[0]);
    else say(`one file is compared at a time, these are ${dropped.length}`, true);
  });
  choice.addEventListener("change", () => { if (choice.files.length) send(choice.files[0]); });
})();
