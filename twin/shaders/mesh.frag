#version 330 core
// Soft studio light: directional lights wrapped around the form (silicone scatters), a sky, a sheen.
// Colours are sRGB, light adds up in linear space. The colour's alpha is gloss, or, below zero, unlit.
struct Light { vec3 color; float intensity; vec3 direction; };
uniform Light directional_lights[MAX_DIRECTIONAL_LIGHTS];
uniform int n_directional_lights;
uniform vec3 ambient_light;
uniform vec3 cam_pos;
in vec3 frag_position;
in vec3 frag_normal;
in vec4 frag_colour;
out vec4 frag_out;

void main()
{
    vec3 base = frag_colour.rgb * frag_colour.rgb;
    float gloss = frag_colour.a;
    vec3 eye = normalize(cam_pos - frag_position);
    vec3 n = normalize(frag_normal);
    if (!gl_FrontFacing) n = -n;
    vec3 light = ambient_light * (0.75 + 0.25 * n.y);
    vec3 sheen = vec3(0.0);
    for (int i = 0; i < n_directional_lights; i++) {
        vec3 l = -directional_lights[i].direction;
        vec3 c = directional_lights[i].color * directional_lights[i].intensity;
        float wrapped = max((dot(n, l) + 0.25) / 1.25, 0.0);
        light += c * wrapped;
        float h = max(dot(n, normalize(l + eye)), 0.0);
        float power = 12.0 + 100.0 * gloss;
        sheen += c * gloss * 0.35 * pow(h, power);
    }
    float edge = 1.0 - max(dot(n, eye), 0.0);
    sheen += ambient_light * 0.25 * gloss * edge * edge * edge;
    frag_out = vec4(sqrt(clamp(base * light + sheen, 0.0, 1.0)), 1.0);
}
