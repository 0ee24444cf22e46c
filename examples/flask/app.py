"""
A site with a login form, whose WebSockets know the user by the site's session cookie.

    browser ── pages and the login form ──────────────────▶ this file
    browser ◀── WebSocket ──▶ hubwire ── POST /hubwire/… ──▶ this file

Browsers send the cookie along with the WebSocket handshake, and hubwire repeats it in the connect event (forwardHeaders). So Flask
finds the session there as in any other request.
"""

import functools
import hashlib
import hmac
import os

from flask import Flask, make_response, redirect, render_template, request, session
from werkzeug.security import check_password_hash, generate_password_hash

ACCESS_KEY = os.environ["HUBWIRE_ACCESS_KEY"].encode()
WEBSOCKET_URL = os.environ.get("HUBWIRE_URL", "ws://127.0.0.1:8080") + "/ws/client/hubs/site"

app = Flask(__name__)
# Without SITE_SECRET sessions end with the process.
app.secret_key = os.environ.get("SITE_SECRET") or os.urandom(32)
app.config["SESSION_COOKIE_SAMESITE"] = "Lax"

# In place of a table of users.
PASSWORDS = {"ada": generate_password_hash("lovelace"), "grace": generate_password_hash("hopper")}
NOBODY = generate_password_hash(os.urandom(16).hex())


@app.get("/")
def page():
    return render_template("site.html", user=session.get("user"), websocket_url=WEBSOCKET_URL)


@app.post("/login")
def login():
    name = request.form.get("name", "")
    # A name that is not known takes as long as a wrong password.
    if not check_password_hash(PASSWORDS.get(name, NOBODY), request.form.get("password", "")):
        return render_template("site.html", fault="Name or password is wrong."), 403
    session.clear()
    session["user"] = name
    return redirect("/")


@app.post("/logout")
def logout():
    session.clear()
    return redirect("/")


def signed(handle):
    """Lets through what hubwire has signed with the access key."""

    @functools.wraps(handle)
    def handle_signed():
        connection_id = request.headers.get("X-ASRS-Connection-Id", "")
        own = "sha256=" + hmac.new(ACCESS_KEY, connection_id.encode(), hashlib.sha256).hexdigest()
        given = request.headers.get("X-ASRS-Signature", "").split(",")
        if not any(hmac.compare_digest(one.encode(), own.encode()) for one in given):
            return "The event is not signed with the access key.", 401
        response = make_response(handle())
        # Says which event is answered, so that no answer reaches another user.
        response.headers["X-Hubwire-Event-Id"] = request.headers.get("X-Hubwire-Event-Id", "")
        return response

    return handle_signed


@app.post("/hubwire/connect")
@signed
def connect():
    """Lets in a browser that is logged in. The connect event is the only one that has the browser's cookies."""
    if "user" not in session:
        return "Log in first.", 401
    user = session["user"]
    # A changed session makes Flask set the cookie anew, and hubwire passes that on (passResponseHeaders).
    session["websockets"] = session.get("websockets", 0) + 1
    welcome = f"Hello {user}. WebSockets of this session: {session['websockets']}."
    return welcome, {"X-ASRS-User-Id": user}


@app.post("/hubwire/message")
@signed
def message():
    """Answers a message. From here on hubwire says who the user is."""
    text = request.get_data().decode("utf-8", "replace")
    return f"{request.headers['X-ASRS-User-Id']}, you said: {text}", {"Content-Type": "text/plain"}


@app.post("/hubwire/disconnect")
@signed
def disconnect():
    return "", 204
