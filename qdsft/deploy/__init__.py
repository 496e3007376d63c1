"""What leaves a run: merged weights with their certificate, uploads to the Hub, a server."""
