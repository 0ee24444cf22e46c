// The page needs no token: the browser sends the site's cookie along with the handshake.
const socket = new WebSocket(document.currentScript.dataset.url);
const state = document.querySelector("#state");
const text = document.querySelector("#text");

let isWelcomed = false;

socket.onmessage = ({ data }) => {
  // The first message is the answer to the connect event.
  if (isWelcomed) {
    const item = document.createElement("li");
    item.textContent = data;
    document.querySelector("#answers").append(item);
  } else {
    isWelcomed = true;
    state.textContent = data;
  }
};

socket.onclose = () => {
  state.textContent = "The WebSocket is closed. Reload the page to try again.";
};

document.querySelector("#say").onsubmit = (event) => {
  event.preventDefault();
  if (socket.readyState !== WebSocket.OPEN) return;
  socket.send(text.value);
  text.value = "";
};
