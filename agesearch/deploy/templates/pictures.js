// Where a page's pictures come from: a file, a drop, the clipboard, the camera. The page has take(blob) and
// takeFrame(video), and elements of the names that stand here.

const byId = (id) => document.getElementById(id);
const camera = { stream: null };

function say(text) {
  byId("status").textContent = text;
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function shown(milliseconds) {
  return `${milliseconds < 10 ? milliseconds.toFixed(1) : milliseconds.toFixed(0)} ms`;
}

function listenToPictures() {
  byId("file").addEventListener("change", async (event) => {
    if (event.target.files.length) await take(event.target.files[0]);
    event.target.value = "";
  });
  document.addEventListener("paste", async (event) => {
    const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
    if (file) await take(file);
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    byId("drop").classList.add("over");
  });
  document.addEventListener("dragleave", () => byId("drop").classList.remove("over"));
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    byId("drop").classList.remove("over");
    if (event.dataTransfer.files.length) await take(event.dataTransfer.files[0]);
  });
}

function endCamera() {
  camera.stream?.getTracks().forEach((track) => track.stop());
  camera.stream = null;
  byId("live").hidden = true;
}

function listenToCamera() {
  if (!navigator.mediaDevices?.getUserMedia) return;
  byId("camera").hidden = false;
  byId("camera").addEventListener("click", async () => {
    try {
      camera.stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user" }, audio: false });
    } catch {
      return say("There is no camera that this page may use: your browser asks for permission, or has none.");
    }
    byId("video").srcObject = camera.stream;
    byId("live").hidden = false;
    return byId("video").play();
  });
  byId("take").addEventListener("click", async () => {
    const video = byId("video");
    if (!video.videoWidth) return;
    const taken = takeFrame(video); // when it first waits, it has the frame
    endCamera();
    await taken;
  });
  byId("stop").addEventListener("click", endCamera);
}
