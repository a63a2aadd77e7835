"""What all transports share: statuses, media types, links."""
