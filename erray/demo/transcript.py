"""What is said: a carrier phrase, then a neutral ending or a hint at the voice's emotion."""

import numpy as np

CARRIERS = (
    "they told me about the meeting",
    "I opened the letter this morning",
    "my sister called from the station",
    "we went back to the old house",
    "the doctor came in at noon",
    "he showed me the photographs",
    "somebody knocked at the door",
    "the results arrived by mail",
    "our neighbour moved out last week",
    "I looked at the clock again",
    "the train stopped in the tunnel",
    "she read the message aloud",
)

NEUTRAL_ENDINGS = (
    "and that is how it was",
    "and then we had lunch",
    "and after that I went home",
    "and it took about an hour",
    "and we talked for a while",
    "and the window was open",
)

HINTS: dict[str, tuple[str, ...]] = {
    "fear": (
        "and I was afraid to move",
        "and I was so scared I could not breathe",
        "and I am terrified it will happen again",
        "please lock the door, I am scared",
    ),
    "surprise": (
        "wow, I never expected that",
        "and suddenly, I could not believe it",
        "can you believe it, what a surprise",
        "I never expected it, not in a million years",
    ),
    "happiness": (
        "and I am so happy, it is wonderful",
        "and we laughed, what a lovely day",
        "this is wonderful, I love it",
        "I am so glad, we laughed for hours",
    ),
    "sadness": (
        "and I miss her so much",
        "and I cried, everything is lost",
        "and I feel so alone now",
        "it is gone, and I cried all night",
    ),
    "disgust": (
        "and the smell was disgusting",
        "it was rotten, it made me sick",
        "yuck, what a filthy mess",
        "that is disgusting, I feel sick",
    ),
    "anger": (
        "and I am furious about it",
        "how dare they, I hate this",
        "stop lying, I hate your excuses",
        "how dare you, I am furious",
    ),
}


def compose(rng: np.random.Generator, carrier: str, *, voice_emotion: str, is_hinting: bool) -> str:
    """The transcript of one clip; only a hinting one depends on the voice's emotion."""
    endings = HINTS[voice_emotion] if is_hinting else NEUTRAL_ENDINGS
    return f"{carrier}, {endings[rng.integers(len(endings))]}"
