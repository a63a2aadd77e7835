"""A load tool for any server that speaks the Messaging API v2: a client that knows nothing of our own.

The parent process prepares queues, starts `worker` processes, and merges what they measure into a `result`,
which is shown as Markdown or as a page, judged by objectives, and compared with another one.
"""
