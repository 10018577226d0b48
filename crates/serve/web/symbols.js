// The vocabulary of LaTeX that the math reader knows: names of characters, operators, spaces and alphabets.

const pairs = (text) => new Map(text.trim().split(/\s+/).map((entry) => {
  const cut = entry.indexOf('=');
  return [entry.slice(0, cut), entry.slice(cut + 1)];
}));
const names = (text) => new Set(text.trim().split(/\s+/));

/** Letters, as `<mi>`. */
export const LETTERS = pairs(`
alpha=α beta=β gamma=γ delta=δ epsilon=ϵ varepsilon=ε zeta=ζ eta=η theta=θ vartheta=ϑ iota=ι kappa=κ varkappa=ϰ
lambda=λ mu=μ nu=ν xi=ξ omicron=ο pi=π varpi=ϖ rho=ρ varrho=ϱ sigma=σ varsigma=ς tau=τ upsilon=υ phi=ϕ varphi=φ
chi=χ psi=ψ omega=ω Gamma=Γ Delta=Δ Theta=Θ Lambda=Λ Xi=Ξ Pi=Π Sigma=Σ Upsilon=Υ Phi=Φ Psi=Ψ Omega=Ω
hbar=ℏ hslash=ℏ ell=ℓ imath=ı jmath=ȷ Re=ℜ Im=ℑ wp=℘ aleph=ℵ beth=ℶ partial=∂ infty=∞ nabla=∇ emptyset=∅
varnothing=∅ angle=∠ measuredangle=∡ triangle=△ square=□ Box=□ blacksquare=■ qed=∎ bot=⊥ top=⊤ prime=′ degree=°
dots=… ldots=… cdots=⋯ vdots=⋮ ddots=⋱ dotsc=… dotsb=⋯ dotsm=⋯ checkmark=✓ star=⋆ bigstar=★ diamond=⋄ clubsuit=♣
diamondsuit=♢ heartsuit=♡ spadesuit=♠ S=§ P=¶ pounds=£ euro=€ copyright=© flat=♭ sharp=♯ natural=♮ eth=ð
`);

/** Operators and relations, as `<mo>`. */
export const OPERATORS = pairs(`
pm=± mp=∓ times=× div=÷ cdot=⋅ ast=∗ circ=∘ bullet=∙ oplus=⊕ ominus=⊖ otimes=⊗ oslash=⊘ odot=⊙ wedge=∧ land=∧
vee=∨ lor=∨ cap=∩ cup=∪ uplus=⊎ sqcap=⊓ sqcup=⊔ setminus=∖ smallsetminus=∖ wr=≀ amalg=⨿ dagger=† ddagger=‡
neg=¬ lnot=¬ forall=∀ exists=∃ nexists=∄ in=∈ notin=∉ ni=∋ owns=∋ subset=⊂ supset=⊃ subseteq=⊆ supseteq=⊇
subsetneq=⊊ supsetneq=⊋ nsubseteq=⊈ sqsubseteq=⊑ sqsupseteq=⊒ leq=≤ le=≤ geq=≥ ge=≥ leqslant=⩽ geqslant=⩾ neq=≠
ne=≠ ll=≪ gg=≫ lt=< gt=> equiv=≡ sim=∼ simeq=≃ approx=≈ approxeq=≊ cong=≅ ncong=≇ propto=∝ varpropto=∝ asymp=≍
doteq=≐ triangleq=≜ coloneqq=≔ coloneq=≔ prec=≺ succ=≻ preceq=⪯ succeq=⪰ lesssim=≲ gtrsim=≳ nless=≮ ngtr=≯
perp=⟂ parallel=∥ nparallel=∦ mid=∣ nmid=∤ divides=∣ vdash=⊢ dashv=⊣ models=⊨ vDash=⊨ Vdash=⊩ bowtie=⋈ smile=⌣ frown=⌢
to=→ rightarrow=→ leftarrow=← gets=← leftrightarrow=↔ Rightarrow=⇒ Leftarrow=⇐ Leftrightarrow=⇔ implies=⟹
impliedby=⟸ iff=⟺ longrightarrow=⟶ longleftarrow=⟵ longleftrightarrow=⟷ Longrightarrow=⟹ Longleftarrow=⟸
Longleftrightarrow=⟺ mapsto=↦ longmapsto=⟼ hookrightarrow=↪ hookleftarrow=↩ uparrow=↑ downarrow=↓ updownarrow=↕
Uparrow=⇑ Downarrow=⇓ nearrow=↗ searrow=↘ nwarrow=↖ swarrow=↙ rightharpoonup=⇀ rightleftharpoons=⇌ leadsto=⇝
rightsquigarrow=⇝ nrightarrow=↛ therefore=∴ because=∵ colon=: vert=| Vert=‖ backslash=∖ ltimes=⋉ rtimes=⋊
trianglelefteq=⊴ triangleright=▹ triangleleft=◃ lhd=⊲ rhd=⊳ dotplus=∔ boxplus=⊞ boxtimes=⊠ upharpoonright=↾
`);

/** Large operators; those in `SIDE_LIMITS` keep their limits at the side. */
export const LARGE = pairs(`
sum=∑ prod=∏ coprod=∐ int=∫ iint=∬ iiint=∭ oint=∮ oiint=∯ bigcap=⋂ bigcup=⋃ bigsqcup=⨆ bigvee=⋁ bigwedge=⋀
bigoplus=⨁ bigotimes=⨂ bigodot=⨀ biguplus=⨄
`);
export const SIDE_LIMITS = names('int iint iiint oint oiint');

/** Functions set upright; those in `LIMIT_FUNCTIONS` take what stands below them. */
export const FUNCTIONS = names(`
arccos arcsin arctan arg cos cosh cot coth csc deg dim exp hom ker lg ln log sec sin sinh tan tanh sgn mod
det gcd inf lcm lim liminf limsup max min Pr sup argmax argmin injlim projlim softmax
`);
export const LIMIT_FUNCTIONS = names('det gcd inf lim liminf limsup max min Pr sup argmax argmin injlim projlim');

/** Delimiters behind `\left`, `\right`, `\big` and their like. */
export const DELIMITERS = pairs(`
\\{={ \\}=} \\lbrace={ \\rbrace=} \\langle=⟨ \\rangle=⟩ \\lfloor=⌊ \\rfloor=⌋ \\lceil=⌈ \\rceil=⌉ \\lvert=| \\rvert=|
\\vert=| \\lVert=‖ \\rVert=‖ \\Vert=‖ \\|=‖ \\lbrack=[ \\rbrack=] \\uparrow=↑ \\downarrow=↓ \\Uparrow=⇑ \\Downarrow=⇓
\\updownarrow=↕ \\backslash=\\ \\lgroup=⟮ \\rgroup=⟯ \\ulcorner=⌜ \\urcorner=⌝ (=( )=) [=[ ]=] |=| /=/ <=⟨ >=⟩
`);

/** Accents: the sign above (or below) and whether it stretches. */
export const ACCENTS = new Map([
  ['hat', ['^', false]], ['widehat', ['^', true]], ['tilde', ['~', false]], ['widetilde', ['~', true]],
  ['bar', ['¯', false]], ['vec', ['→', false]], ['overrightarrow', ['→', true]],
  ['overleftarrow', ['←', true]], ['overleftrightarrow', ['↔', true]], ['dot', ['˙', false]], ['ddot', ['¨', false]], ['dddot', ['⃛', false]],
  ['acute', ['´', false]], ['grave', ['`', false]], ['check', ['ˇ', false]], ['breve', ['˘', false]], ['mathring', ['˚', false]],
  ['overbrace', ['⏞', true]], ['overbracket', ['⎴', true]],
]);
export const UNDER_ACCENTS = new Map([['underbrace', '⏟'], ['underbracket', '⎵']]);

/** Widths in em. */
export const SPACES = new Map([
  [',', 0.1667], [':', 0.2222], ['>', 0.2222], [';', 0.2778], ['!', -0.1667], [' ', 0.25], ['~', 0.25], ['quad', 1], ['qquad', 2],
  ['thinspace', 0.1667], ['medspace', 0.2222], ['thickspace', 0.2778], ['negthinspace', -0.1667], ['enspace', 0.5], ['enskip', 0.5], ['nobreakspace', 0.25], ['space', 0.25],
]);

// Where the alphabets of Unicode begin, and the letters that had a place before them.
const ALPHABETS = {
  bold: [0x1d400, 0x1d41a, 0x1d7ce], italic: [0x1d434, 0x1d44e], bolditalic: [0x1d468, 0x1d482],
  script: [0x1d49c, 0x1d4b6], fraktur: [0x1d504, 0x1d51e], double: [0x1d538, 0x1d552, 0x1d7d8],
  sans: [0x1d5a0, 0x1d5ba, 0x1d7e2], mono: [0x1d670, 0x1d68a, 0x1d7f6],
};
const EXCEPTIONS = {
  script: pairs('B=ℬ E=ℰ F=ℱ H=ℋ I=ℐ L=ℒ M=ℳ R=ℛ e=ℯ g=ℊ o=ℴ'), fraktur: pairs('C=ℭ H=ℌ I=ℑ R=ℜ Z=ℨ'),
  double: pairs('C=ℂ H=ℍ N=ℕ P=ℙ Q=ℚ R=ℝ Z=ℤ'), italic: pairs('h=ℎ'),
};
const BOLD_GREEK = { upper: 0x1d6a8, lower: 0x1d6c2 };

/** A letter or digit in another alphabet; anything else stays. */
export function inAlphabet(c, alphabet) {
  const exception = EXCEPTIONS[alphabet]?.get(c);
  if (exception !== undefined) return exception;
  const row = ALPHABETS[alphabet];
  const code = c.codePointAt(0);
  if (row === undefined) return c;
  if (code >= 65 && code <= 90) return String.fromCodePoint(row[0] + code - 65);
  if (code >= 97 && code <= 122) return String.fromCodePoint(row[1] + code - 97);
  if (code >= 48 && code <= 57 && row[2] !== undefined) return String.fromCodePoint(row[2] + code - 48);
  if (alphabet.startsWith('bold') && code >= 0x391 && code <= 0x3a9) return String.fromCodePoint(BOLD_GREEK.upper + code - 0x391);
  if (alphabet.startsWith('bold') && code >= 0x3b1 && code <= 0x3c9) return String.fromCodePoint(BOLD_GREEK.lower + code - 0x3b1);
  return c;
}

/** Commands that choose an alphabet. */
export const ALPHABET_COMMANDS = pairs(`
mathbf=bold bm=bolditalic boldsymbol=bolditalic mathit=italic mathcal=script mathscr=script mathfrak=fraktur
mathbb=double mathsf=sans mathtt=mono mathrm=upright operatorname=upright mathnormal=italic Bbb=double bold=bold
`);
