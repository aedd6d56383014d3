# SPDX-License-Identifier: Apache-2.0
"""Texts on which tokenizers come apart, seeded: (name, [text])."""
import pathlib
import random

ROOT = pathlib.Path(__file__).resolve().parents[3]

SENTENCES = """
The cat's whiskers aren't what they'll be; we've 12345 of them, I'd say I'M OK.
Der Größte heißt Jürgen, und über Öfen weiß er alles: 3,14159 €!
L'été, ça ne s'arrête pas là où l'on croit… n'est-ce pas, cœur?
El niño comió piña en el jardín; ¿cuántos años tienes, señor Núñez?
Zażółć gęślą jaźń, a potem źdźbło trawy.
Příliš žluťoučký kůň úpěl ďábelské ódy.
Þórður á fjögur börn og æðardún.
Съешь же ещё этих мягких булок, да выпей чаю — 27 раз.
Їжак ґречно їсть м'яке яблуко біля під'їзду.
Η γάτα κοιμάται στον ήλιο· τι ώρα είναι; Άραγε 7:45.
הילד קורא ספר, והחתול ישן. שָׁלוֹם עֲלֵיכֶם
القطة تنام في الشمس، والساعة ١٢:٣٤ الآن؟ مُحَمَّد
گربه در آفتاب می‌خوابد؛ ۱۲۳۴ کتاب دارم.
बिल्ली धूप में सो रही है, और घड़ी में १२ बजे हैं।
বিড়াল রোদে ঘুমাচ্ছে, এখন ১২টা বাজে।
பூனை வெயிலில் தூங்குகிறது; மணி பன்னிரண்டு.
పిల్లి ఎండలో నిద్రపోతోంది.
ಬೆಕ್ಕು ಬಿಸಿಲಿನಲ್ಲಿ ಮಲಗಿದೆ.
പൂച്ച വെയിലത്ത് ഉറങ്ങുന്നു.
ਬਿੱਲੀ ਧੁੱਪ ਵਿੱਚ ਸੌਂ ਰਹੀ ਹੈ।
બિલાડી તડકામાં સૂઈ રહી છે.
බළලා අව්වේ නිදාගෙන සිටී.
แมวนอนอยู่กลางแดดตอนเที่ยง ๑๒ นาฬิกา
ແມວນອນຢູ່ກາງແດດ
កឆ្មាកំពុងដេកក្នុងពន្លឺថ្ងៃ
ကြောင်က နေပူထဲမှာ အိပ်နေတယ်။
བྱི་ལ་ཉི་མའི་ནང་ཉལ་འདུག
猫在阳光下睡觉，现在是十二点三十四分。我有３４５本书！
貓在陽光下睡覺，現在幾點？
猫は日なたで眠っています。カタカナとひらがな、１２３。
고양이가 햇볕에서 잠을 잔다. 열두 시 삼십사 분이다.
ድመቷ በፀሐይ ላይ ተኝታለች።
კატა მზეზე სძინავს.
Կատուն քնում է արևի տակ։
ᎠᏂᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ ᏪᏌ
Con mèo đang ngủ dưới nắng; bây giờ là mười hai giờ.
Kedi güneşte uyuyor; İstanbul'da ısı 35 °C.
def f(x):\n    return {"a": [1, 22, 333], 'b': x**2}  # it's done\n\n\tpass\r\n
SELECT * FROM t WHERE a<>b AND c >= 10_000;-- 100%\n
https://example.invalid/a/b?c=d&e=%20#f user@example.invalid 192.168.0.1
∀x∈ℝ: x² ≥ 0 ⇒ ∑ᵢ₌₁ⁿ xᵢ² ≥ 0, ½ + ⅓ = ⅚, Ⅷ ≠ 8, ①②③ ²³¹
""".strip().split("\n")

# First and last code point of blocks: more than twenty scripts, and the rest.
BLOCKS = [
    (0x21, 0x7E), (0xA1, 0x17F), (0x180, 0x2AF), (0x300, 0x36F),
    (0x370, 0x3FF), (0x400, 0x52F), (0x531, 0x58F), (0x591, 0x5F4),
    (0x600, 0x6FF), (0x700, 0x74F), (0x780, 0x7BF), (0x900, 0x97F),
    (0x980, 0x9FF), (0xA00, 0xA7F), (0xA80, 0xAFF), (0xB00, 0xB7F),
    (0xB80, 0xBFF), (0xC00, 0xC7F), (0xC80, 0xCFF), (0xD00, 0xD7F),
    (0xD80, 0xDFF), (0xE00, 0xE7F), (0xE80, 0xEFF), (0xF00, 0xFFF),
    (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x139F),
    (0x13A0, 0x13FF), (0x1400, 0x167F), (0x1680, 0x16FF), (0x1780, 0x17FF),
    (0x1800, 0x18AF), (0x1E00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x218F),
    (0x2190, 0x23FF), (0x2460, 0x24FF), (0x2500, 0x27BF), (0x3000, 0x30FF),
    (0x3100, 0x33FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA000, 0xA4CF),
    (0xAC00, 0xD7A3), (0xE000, 0xE0FF), (0xF900, 0xFAFF), (0xFB00, 0xFDFF),
    (0xFE00, 0xFFFF), (0x10000, 0x103FF), (0x10A00, 0x10AFF),
    (0x11000, 0x112FF), (0x12000, 0x123FF), (0x13000, 0x1342F),
    (0x1D400, 0x1D7FF), (0x1F000, 0x1FAFF), (0x20000, 0x2A6DF),
    (0xE0001, 0xE01EF), (0x10FF00, 0x10FFFF)]

SPACES = [chr(c) for c in (
    9, 10, 11, 12, 13, 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028,
    0x2029, 0x202F, 0x205F, 0x3000)]

EMOJI = [
    "😀", "👩‍👩‍👧‍👦", "👍🏽", "🧑🏿‍🚀", "🇫🇷🇯🇵", "1️⃣#️⃣",
    "❤️‍🔥", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "🫱🏻‍🫲🏿", "☺", "☺️",
    "👨🏻‍❤️‍💋‍👨🏼", "🏳️‍🌈", "©️", "🤷🏾‍♀️", "\u200d", "\ufe0f"]

CONTROLS = [chr(c) for c in (
    *range(32), *range(0x7F, 0xA0), 0xAD, 0x200B, 0x200C, 0x200D, 0x200E,
    0x200F, *range(0x202A, 0x202F), 0x2060, 0x2066, 0x2069, 0xFEFF, 0xFFFD,
    0xFFFE, 0xFFFF, 0xE000, 0xF8FF, 0x1FFFE, 0x10FFFF)]


def is_scalar(code):
    return not 0xD800 <= code <= 0xDFFF


def words_of(rng, alphabet, count):
    """Words, numbers, signs and white space, many of them joined."""
    out = []
    for _ in range(count):
        out.append("".join(rng.choices(alphabet, k=rng.randint(1, 8))))
        out.append(rng.choice([" ", " ", " ", "", "  ", ", ", "\n", ". ", "'s ",
                               "-", "\t", "\r\n", " 12", "\u3000", "'LL"]))
    return "".join(out)


def repository(budget):
    """This repository's own code."""
    texts, size = [], 0
    for path in sorted(ROOT.rglob("*")):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(("build", ".")) or not path.is_file() or \
                path.suffix not in (".cpp", ".h", ".py", ".md", ".txt", ".sh",
                                    ".cmake", ".json", ".lock"):
            continue
        texts.append(path.read_text(encoding="utf-8"))
        size += len(texts[-1])
        if size >= budget:
            break
    return texts


def every_code_point(full):
    """In order, alone and between a letter, a digit and spaces. Without `full`
    those above U+2FFFF thinly: nothing is assigned to most of them."""
    texts = []
    for begin in range(0, 0x110000, 0x1000):
        step = 1 if full or begin < 0x3000 or 0xA000 <= begin < 0x20000 else 17
        codes = [c for c in range(begin, begin + 0x1000, step) if is_scalar(c)]
        texts.append("".join(map(chr, codes)))
        if full or begin in (0, 0x1000, 0x2000, 0x11000, 0x16000):
            texts.append("".join(f"a{chr(c)}1{chr(c)} {chr(c)}" for c in codes))
    return texts


def samples(special, full):
    """`special`: contents of added tokens. Some 1 MB; `full`: many more."""
    rng = random.Random(1234)
    scale = 6 if full else 1
    sets = {"sentences": SENTENCES + [s.replace("\\n", "\n").replace(
        "\\t", "\t").replace("\\r", "\r") for s in SENTENCES]}
    sets["code"] = repository(3_000_000 if full else 250_000)
    sets["scripts"] = [
        words_of(rng, [chr(c) for c in range(a, b + 1) if is_scalar(c)],
                 120 * scale) for a, b in BLOCKS]
    mixed = [chr(c) for a, b in BLOCKS for c in
             rng.choices(range(a, b + 1), k=12) if is_scalar(c)]
    sets["mixed scripts"] = [words_of(rng, mixed, 200)
                             for _ in range(20 * scale)]
    sets["code points"] = every_code_point(full)
    sets["emoji"] = [
        "".join(rng.choices(EMOJI + [" ", "a", "1", "!", "\n"], k=30))
        for _ in range(60 * scale)]
    sets["white space"] = [
        "".join(rng.choices(SPACES + [" "] * 12 + ["\n"] * 6 + ["\r"] * 3 +
                            ["a", "é", "1", "!", "'s", "中"], k=40))
        for _ in range(400 * scale)]
    sets["white space"] += [s * n for s in SPACES for n in (1, 2, 3, 50)]
    sets["controls"] = [
        "".join(rng.choices(CONTROLS + ["a", " ", "7", "\n"], k=40))
        for _ in range(120 * scale)]
    sets["contractions"] = [
        "".join(rng.choices(["'", "'", "'", "’", *"sStTmMdDlLvVrReE", "ſ", " ",
                             "K", "ß", "x", "1", "\n"], k=30))
        for _ in range(300 * scale)]
    sets["numbers"] = [
        "".join(rng.choices([*"0123456789", "٣", "९", "½", "Ⅷ", "𝟙", "²",
                             " ", "a", ",", ".", "中", "𑷠", "𖿴"], k=30))
        for _ in range(200 * scale)]
    long_word = "".join(rng.choices("etaoinshrdlucmfwypvbgkjqxz", k=50_000))
    sets["long words"] = [
        long_word, "a" * 20_000, "the" * 5000, "é" * 5000, "-" * 10_000,
        "7" * 10_000, " " * 10_000, "\n" * 5000, " \n" * 5000,
        "x" + " " * 5000 + "y", "word " * 3000]
    if special:
        around = ["", "", " ", "  ", "\n", "a", "<", "|", ">", "<|", "|>", "é",
                  "\u3000"]
        broken = [t[:len(t) // 2] for t in special]
        sets["added tokens"] = [
            "".join(rng.choice(special + broken) + rng.choice(around)
                    for _ in range(12)) for _ in range(200 * scale)]
    sets["nothing"] = ["", " ", "\n", "a"]
    return sets


def byte_strings(full):
    """Bytes that are UTF-8 and bytes that are not."""
    rng = random.Random(4321)
    found = [bytes([b]) for b in range(256)]
    lead = [0x41, 0x7F, 0x80, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xED,
            0xEF, 0xF0, 0xF1, 0xF4, 0xF5, 0xFF]
    tail = [0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC2, 0xE2, 0xF0]
    found += [bytes([a, b, c]) for a in lead for b in tail for c in tail]
    found += [bytes([a, b, c, d]) for a in (0xE2, 0xED, 0xF0, 0xF1, 0xF4)
              for b in tail for c in tail for d in tail]
    for _ in range(20_000 if full else 2000):
        found.append(bytes(rng.choices(lead + tail, k=rng.randint(1, 20))))
        text = bytearray("aé中😀\u0800\U0010ffff".encode() * 2)
        for _ in range(rng.randint(1, 4)):
            text[rng.randrange(len(text))] = rng.randrange(256)
        found.append(bytes(text[rng.randrange(4):len(text)
                                - rng.randrange(4)]))
    return found
