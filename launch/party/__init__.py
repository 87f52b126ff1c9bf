"""The processes of a deployment: server0, server1, dealer, model owner and client.

`node` starts and ends every process, `party`, `dealer`, `owner` and `client` are its mains. A request comes in
at a server's `edge`, waits in its `queue`, is led by `leader` and followed by `follower`.
A client makes its tokens by `client_model`, and its `answer` of what both servers send.
May import: deployment, requests, reporting and the options of commands.
"""
