"use strict";

// The viewer: PET over CT with the lesions, from what the page holds itself.
(async () => {
  const canvas = document.getElementById("viewer");
  if (!canvas) return;
  const told = document.getElementById("viewer-told");
  try {
    const source = document.getElementById("niivue").textContent;
    const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    const { Niivue, NVImage, SLICE_TYPE } = await import(address);
    const viewer = new Niivue({
      backColor: [0, 0, 0, 1],
      isOrientCube: false,
      isRadiologicalConvention: true,
      show3Dcrosshair: true,
      multiplanarForceRender: false,
      dragAndDropEnabled: false,
      onLocationChange: (place) => {
        const slice = document.getElementById("viewer-slice");
        slice.value = Math.floor(viewer.scene.crosshairPos[2] * (Number(slice.max) + 1));
        told.textContent = place.values
          .map(({ name, value }) => `${name} ${name === "SUV" ? value.toFixed(2) : Math.round(value)}`)
          .join(", ");
      },
    });
    await viewer.attachToCanvas(canvas);
    const load = async (name, id, colormap, low, high, opacity) => {
      const base64 = document.getElementById(id).textContent.trim();
      const image = await NVImage.loadFromBase64({ base64, name: `${name}.nii.gz`, colormap, opacity, cal_min: low, cal_max: high });
      image.name = name;
      viewer.addVolume(image);
    };
    const window_suv = Number(canvas.dataset.suvWindow);
    await load("CT", "volume-ct", "gray", -160, 240, 1);
    await load("SUV", "volume-suv", "hot", 0, window_suv, 0.55);
    await load("lesion", "volume-lesions", "green", 0, 1, 0.6);
    viewer.setSliceType(SLICE_TYPE.MULTIPLANAR);
    const sliders = { SUV: [1, "viewer-suv"], lesion: [2, "viewer-lesions"] };
    for (const [, [volume, id]] of Object.entries(sliders)) {
      document.getElementById(id).addEventListener("input", (event) => viewer.setOpacity(volume, Number(event.target.value)));
    }
    const slice = document.getElementById("viewer-slice");
    slice.max = viewer.volumes[0].dimsRAS[3] - 1;
    const go = (place) => {
      viewer.scene.crosshairPos = place;
      viewer.drawScene();
      viewer.createOnLocationChange();
    };
    slice.addEventListener("input", () => {
      const [x, y] = viewer.scene.crosshairPos;
      go([x, y, (Number(slice.value) + 0.5) / (Number(slice.max) + 1)]);
    });
    for (const button of document.querySelectorAll("[data-place-mm]")) {
      button.addEventListener("click", () => {
        const [x, y, z] = button.dataset.placeMm.split(" ").map(Number);
        go(viewer.mm2frac([-x, -y, z]));
        canvas.scrollIntoView({ block: "center" });
      });
    }
    slice.value = Math.round(Number(slice.max) / 2);
    // Of the crosshair's place the program tells numbers, and the slider follows it.
    viewer.createOnLocationChange();
    canvas.dataset.ready = "true";
  } catch (error) {
    told.textContent = `The viewer cannot run in this browser: ${error.message}`;
    canvas.dataset.ready = "failed";
  }
})();
