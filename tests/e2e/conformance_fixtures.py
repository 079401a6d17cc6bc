"""The real server with the fixtures that the official conformance suite calls by fixed names.

python -m tests.e2e.conformance_fixtures serve
"""

from __future__ import annotations

import sys
from typing import Any

from mcp.server.mcpserver.prompts.base import UserMessage
from mcp_types import (
    AudioContent,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    TextContent,
    TextResourceContents,
    ToolAnnotations,
)

from federated_memory import asgi
from federated_memory.cli.main import main
from federated_memory.service.observer import Observer
from federated_memory.service.services import Services
from federated_memory.tools.server import MemoryServer
from federated_memory.tools.toolkit import ToolSpec

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # one pixel
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="


def embedded(uri: str, text: str) -> EmbeddedResource:
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type="text/plain", text=text))


class FixtureServer(MemoryServer):
    def __init__(self, services: Services, observer: Observer) -> None:
        super().__init__(services, observer)
        for function in (
            test_simple_text, test_error_handling, test_image_content, test_audio_content, test_embedded_resource,
            test_multiple_content_types,
        ):  # fmt: skip
            self.add_tool(function, structured_output=False)
            self._specs[function.__name__] = ToolSpec(
                function, "", frozenset({"ai", "sync", "read", "admin"}), ToolAnnotations()
            )
        self.resource("test://static-text", mime_type="text/plain")(static_text)
        self.resource("test://static-binary", mime_type="image/png")(static_binary)
        self.resource("test://watched-resource", mime_type="text/plain")(static_text)
        self.resource("test://template/{id}/data", mime_type="application/json")(templated)
        for prompt in (
            test_simple_prompt, test_prompt_with_arguments, test_prompt_with_embedded_resource, test_prompt_with_image,
        ):  # fmt: skip
            self.prompt()(prompt)


def test_simple_text() -> str:
    """Text."""
    return "This is a simple text response for testing."


def test_error_handling() -> CallToolResult:
    """An error."""
    text = TextContent(type="text", text="This tool intentionally returns an error for testing")
    return CallToolResult(content=[text], is_error=True)


def test_image_content() -> Any:
    """An image."""
    return CallToolResult(content=[ImageContent(type="image", data=PNG, mime_type="image/png")])


def test_audio_content() -> Any:
    """Audio."""
    return CallToolResult(content=[AudioContent(type="audio", data=WAV, mime_type="audio/wav")])


def test_embedded_resource() -> Any:
    """An embedded resource."""
    return CallToolResult(content=[embedded("test://embedded-resource", "This is an embedded resource content.")])


def test_multiple_content_types() -> Any:
    """Text, an image and a resource."""
    return CallToolResult(
        content=[
            TextContent(type="text", text="Multiple content types test:"),
            ImageContent(type="image", data=PNG, mime_type="image/png"),
            embedded("test://mixed-content-resource", '{"test":"data","value":123}'),
        ]
    )


def static_text() -> str:
    return "This is the content of the static text resource."


def static_binary() -> bytes:
    import base64

    return base64.b64decode(PNG)


def templated(id: str) -> str:
    return f'{{"id":"{id}","templateTest":true,"data":"Data for ID: {id}"}}'


def test_simple_prompt() -> str:
    """A prompt."""
    return "This is a simple prompt for testing."


def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """A prompt with arguments."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


def test_prompt_with_embedded_resource(resourceUri: str) -> list[Any]:
    """A prompt with a resource."""
    return [
        UserMessage(content=embedded(resourceUri, "Embedded resource content for testing.")),
        UserMessage(content="Please process the embedded resource above."),
    ]


def test_prompt_with_image() -> list[Any]:
    """A prompt with an image."""
    return [
        UserMessage(content=ImageContent(type="image", data=PNG, mime_type="image/png")),
        UserMessage(content="Please analyze the image above."),
    ]


if __name__ == "__main__":
    asgi.MemoryServer = FixtureServer  # type: ignore[misc]
    sys.exit(main())
