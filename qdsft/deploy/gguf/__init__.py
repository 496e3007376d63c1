"""Export a merged model to GGUF, with a Modelfile for Ollama."""
