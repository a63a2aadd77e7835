"""The rules, each once: transports call in through `dispatch`, stores are reached through their contract."""
