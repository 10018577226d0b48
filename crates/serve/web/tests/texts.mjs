// Texts that models could write: one with everything the page can show, one with everything it must not do.

export const MARKDOWN = String.raw`# Sums

We argue by **contradiction**. Suppose $\sqrt{2}$ were rational:

$$
\sqrt{2} = \frac{p}{q}, \qquad p, q \in \mathbb{Z},\ \gcd(p, q) = 1.
$$

1. Squaring gives $p^2 = 2q^2$, so $p$ is even.
2. Write $p = 2k$.

   Then $q^2 = 2k^2$.
3. Hence
   - $q$ is even as well,
     1. deeply nested
   - which contradicts \(\gcd(p, q) = 1\).

> The same holds for $\sqrt{n}$.
> > And quotes nest.

\[
\boxed{\sqrt{2} \notin \mathbb{Q}}
\]

| Step | Uses | Holds |
|:-----|:----:|------:|
| parity | $2 \mid p^2$ | always |
| \`x|y\` | **b** | 1,234.5 |

~~~rust
/// Merges two sorted slices.
pub fn merge<T: Ord + Clone>(a: &[T], b: &[T]) -> Vec<T> {
    // Ties come from a.
    let mut out = Vec::with_capacity(a.len() + b.len());
#include <not a heading>

    out
}
~~~

text
#include is no heading
- [x] done
- [ ] to do

A [link](https://example.org/a_(b)), https://auto.example/path, *emphasis*, ~~gone~~ and a hard\
break. $5 and $6 are prices.

***

$$f(x) = \begin{cases} x^2 & \text{if } x \ge 0 \\ -x & \text{otherwise} \end{cases}$$
`.replaceAll('\\`', '`').replaceAll('~~~', '```');

export const ATTACKS = String.raw`<script>window.pwned = 1</script>
<img src=x onerror="window.pwned = 2">
<svg onload="window.pwned = 3"><a xlink:href="javascript:window.pwned=4">x</a></svg>
<iframe src="javascript:window.pwned=5"></iframe><math><mtext><img src=x onerror=window.pwned=51></mtext></math>

[click](javascript:window.pwned=6) [or](JaVaScRiPt:window.pwned=7) [data](data:text/html,<script>window.pwned=8</script>)
[tab](java${'\t'}script:window.pwned=9) [vb](vbscript:x) [fine](https://example.org/a?b=c&d="e")

![picture](https://evil.example/track.png "t") ![x](javascript:window.pwned=10) <javascript:window.pwned=11>

<https://example.org/"onmouseover="window.pwned=12> and <a href="https://x" onclick="window.pwned=13">a</a>

RTL: file${'\u202e'}gpj.exe and ${'\u2066'}isolate${'\u2069'} done. [${'\u202e'}txt](https://example.org/${'\u202e'}gpj)

~~~html"><script>window.pwned=14</script>
</code></pre></script><script>window.pwned = 15</script>
~~~

$\href{javascript:window.pwned=16}{x}$ and $\text{<img src=x onerror=window.pwned=17>}$ and \(\class{x" onclick="window.pwned=18}{y}\)

| a | <b onmouseover=window.pwned=19>x</b> |
|---|---|
| </script> | <style>*{display:none}</style> |

Costs $5 and $6. &lt;b&gt; &#x3c;script&#x3e; {{constructor.constructor('window.pwned=20')()}}

${'A'.repeat(20_000)} ${'*[`'.repeat(3_000)}
`.replaceAll('~~~', '```');
