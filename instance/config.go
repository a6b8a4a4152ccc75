package instance

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// Config is what an instance is told. Load fills it from flags, environment,
// file and defaults, in that order of precedence.
type Config struct {
	Data              string // data directory
	Listen            string // address to listen on
	Policies          string // directory of policies; default DATA/policies
	Durability        string // strict | balanced
	OpenAIUpstream    string // base URL of the OpenAI API, without /v1
	AnthropicUpstream string // base URL of the Anthropic API, without /v1
	OpenAIKey         string // provider key for clients that bring none; secret
	AnthropicKey      string // likewise; secret
	BlockMode         string // respond | error: how a block is answered
	ClientUpstreams   string // configured | any: where a client's request may ask to go
	CanaryEvery       string // a duration, or off: how often test interactions are played
	Webhook           string // address of the receiver "default"
	WebhookSecret     string // its signing secret (whsec_...); secret
	// Receivers are further receivers of alerts, by name; only from the file.
	Receivers map[string]Receiver
	// Upstreams are further providers by name, each at /up/NAME; only from the file.
	Upstreams map[string]Upstream
	// MCPServers are the guarded MCP servers by name, each at /mcp/NAME; only from the file.
	MCPServers map[string]MCPServer
	// Listener takes connections instead of Listen, for an instance within another
	// program; only from that program.
	Listener net.Listener
	// Origins says where each setting came from, by the setting's name.
	Origins map[string]string
}

// Receiver is where alerts go.
type Receiver struct {
	Webhook string `yaml:"webhook"`
	Secret  string `yaml:"secret"`
}

// Upstream is a provider's API beside the two that have settings of their own.
type Upstream struct {
	Protocol string `yaml:"protocol"` // openai | anthropic | azure
	URL      string `yaml:"url"`
	Key      string `yaml:"key"` // for clients that bring none; secret
}

// protocols lists what an Upstream can speak.
var protocols = []string{"openai", "anthropic", "azure"}

// setting is one value that flag, environment and file can give.
type setting struct {
	Name     string // the flag; GUARDBOOK_ and the name in capitals is the variable; with _ the key in the file
	Usage    string
	Default  string
	Secret   bool
	Variable string // another variable, when the usual one is not set
	field    func(*Config) *string
	allowed  []string
}

// settings lists every setting in the order that --print-config shows.
var settings = []setting{
	{Name: "data", Usage: "data directory", Default: "guardbook-data", field: func(c *Config) *string { return &c.Data }},
	{Name: "listen", Usage: "address to listen on", Default: "127.0.0.1:8787", field: func(c *Config) *string { return &c.Listen }},
	{Name: "policies", Usage: "directory of policies (default DATA/policies)", field: func(c *Config) *string { return &c.Policies }},
	{Name: "durability", Usage: "strict: on disk before an action is released; balanced: on disk within 50 ms", Default: "strict",
		field: func(c *Config) *string { return &c.Durability }, allowed: []string{"strict", "balanced"}},
	{Name: "openai-upstream", Usage: "base URL of the OpenAI API", Default: "https://api.openai.com",
		field: func(c *Config) *string { return &c.OpenAIUpstream }},
	{Name: "anthropic-upstream", Usage: "base URL of the Anthropic API", Default: "https://api.anthropic.com",
		field: func(c *Config) *string { return &c.AnthropicUpstream }},
	{Name: "openai-key", Usage: "provider key for clients that bring only an agent's key", Secret: true, Variable: "OPENAI_API_KEY",
		field: func(c *Config) *string { return &c.OpenAIKey }},
	{Name: "anthropic-key", Usage: "provider key for clients that bring only an agent's key", Secret: true, Variable: "ANTHROPIC_API_KEY",
		field: func(c *Config) *string { return &c.AnthropicKey }},
	{Name: "block-mode", Usage: "respond: a block is an answer that the agent can read; error: HTTP 403", Default: "respond",
		field: func(c *Config) *string { return &c.BlockMode }, allowed: []string{"respond", "error"}},
	{Name: "client-upstreams", Usage: "configured: a client may only name an upstream that is configured here; any: SDKs' clients go where they would have gone", Default: "configured",
		field: func(c *Config) *string { return &c.ClientUpstreams }, allowed: []string{"configured", "any"}},
	{Name: "canary-every", Usage: "how often the server plays test interactions to itself: a duration, or off", Default: "5m",
		field: func(c *Config) *string { return &c.CanaryEvery }},
	{Name: "webhook", Usage: "address that alerts are sent to (receiver \"default\")", field: func(c *Config) *string { return &c.Webhook }},
	{Name: "webhook-secret", Usage: "signing secret of the webhook (whsec_...)", Secret: true,
		field: func(c *Config) *string { return &c.WebhookSecret }},
}

// Setting is a setting as a command line shows it.
type Setting struct{ Name, Usage, Default string }

// Settings lists the settings that a command line may offer as flags; secrets are
// not among them, since other users of a machine can read a command line.
func Settings() []Setting {
	var out []Setting
	for _, s := range settings {
		if !s.Secret {
			out = append(out, Setting{s.Name, s.Usage, s.Default})
		}
	}
	return out
}

func (s setting) env() string {
	return "GUARDBOOK_" + strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_"))
}
func (s setting) key() string { return strings.ReplaceAll(s.Name, "-", "_") }

// Load settles the configuration. flags holds the flags that were given; file is
// the path of the config file, or "".
func Load(flags map[string]string, getenv func(string) string, file string) (*Config, error) {
	fromFile, more, err := readFile(file)
	if err != nil {
		return nil, err
	}
	c := &Config{Receivers: more.receivers, Upstreams: more.upstreams, MCPServers: more.servers, Origins: map[string]string{}}
	for _, s := range settings {
		value, origin := s.Default, "default"
		switch {
		case flags[s.Name] != "":
			value, origin = flags[s.Name], "flag --"+s.Name
		case getenv(s.env()) != "":
			value, origin = getenv(s.env()), "environment "+s.env()
		case fromFile[s.key()] != "":
			value, origin = fromFile[s.key()], "file "+file
		case s.Variable != "" && getenv(s.Variable) != "":
			value, origin = getenv(s.Variable), "environment "+s.Variable
		}
		if s.allowed != nil && !slices.Contains(s.allowed, value) {
			return nil, fmt.Errorf("%s is %q (from %s): allowed are %s", s.Name, value, origin, strings.Join(s.allowed, ", "))
		}
		*s.field(c), c.Origins[s.Name] = value, origin
	}
	if c.Policies == "" {
		c.Policies, c.Origins["policies"] = filepath.Join(c.Data, "policies"), "default"
	}
	return c, c.check()
}

func (c *Config) check() error {
	if err := checkMCPServers(c.MCPServers); err != nil {
		return err
	}
	if _, err := c.canaryEvery(); err != nil {
		return err
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("listen is %q (from %s): give HOST:PORT, for example 127.0.0.1:8787", c.Listen, c.Origins["listen"])
	}
	urls := map[string]string{"openai-upstream": c.OpenAIUpstream, "anthropic-upstream": c.AnthropicUpstream}
	if c.Webhook != "" {
		urls["webhook"] = c.Webhook
	}
	for name, r := range c.Receivers {
		urls["receivers."+name+".webhook"] = r.Webhook
	}
	for name, u := range c.Upstreams {
		urls["upstreams."+name+".url"] = u.URL
	}
	for name, v := range urls {
		u, err := url.Parse(v)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return fmt.Errorf("%s must be an http or https address with a host", name)
		}
		if u.User != nil {
			return fmt.Errorf("%s must not hold a user or password", name)
		}
	}
	c.OpenAIUpstream = strings.TrimSuffix(strings.TrimRight(c.OpenAIUpstream, "/"), "/v1")
	c.AnthropicUpstream = strings.TrimSuffix(strings.TrimRight(c.AnthropicUpstream, "/"), "/v1")
	return nil
}

// further is what only the config file can say.
type further struct {
	receivers map[string]Receiver
	upstreams map[string]Upstream
	servers   map[string]MCPServer
}

// readFile reads the config file strictly: unknown keys are errors with their place.
func readFile(path string) (map[string]string, further, error) {
	if path == "" {
		return nil, further{}, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, further{}, fmt.Errorf("read config: %w", err)
	}
	var doc struct {
		Data              string               `yaml:"data"`
		Listen            string               `yaml:"listen"`
		Policies          string               `yaml:"policies"`
		Durability        string               `yaml:"durability"`
		OpenAIUpstream    string               `yaml:"openai_upstream"`
		AnthropicUpstream string               `yaml:"anthropic_upstream"`
		OpenAIKey         string               `yaml:"openai_key"`
		AnthropicKey      string               `yaml:"anthropic_key"`
		BlockMode         string               `yaml:"block_mode"`
		ClientUpstreams   string               `yaml:"client_upstreams"`
		CanaryEvery       string               `yaml:"canary_every"`
		Webhook           string               `yaml:"webhook"`
		WebhookSecret     string               `yaml:"webhook_secret"`
		Receivers         map[string]Receiver  `yaml:"receivers"`
		Upstreams         map[string]Upstream  `yaml:"upstreams"`
		MCPServers        map[string]MCPServer `yaml:"mcp_servers"`
	}
	if err := yaml.UnmarshalWithOptions(b, &doc, yaml.Strict()); err != nil {
		var known []string
		for _, s := range settings {
			known = append(known, s.key())
		}
		return nil, further{}, fmt.Errorf("read config %s: %w\nknown keys: %s, receivers, upstreams, mcp_servers", path, err, strings.Join(known, ", "))
	}
	for name, r := range doc.Receivers {
		if r.Webhook == "" {
			return nil, further{}, fmt.Errorf("read config %s: receiver %q has no webhook", path, name)
		}
	}
	for name, u := range doc.Upstreams {
		if !upstreamName.MatchString(name) {
			return nil, further{}, fmt.Errorf("read config %s: upstream %q: a name is 1 to 40 of a-z, 0-9 and '-'", path, name)
		}
		if !slices.Contains(protocols, u.Protocol) {
			return nil, further{}, fmt.Errorf("read config %s: upstream %q: protocol is %q: allowed are %s", path, name, u.Protocol, strings.Join(protocols, ", "))
		}
	}
	return map[string]string{
		"data": doc.Data, "listen": doc.Listen, "policies": doc.Policies, "durability": doc.Durability,
		"openai_upstream": doc.OpenAIUpstream, "anthropic_upstream": doc.AnthropicUpstream,
		"openai_key": doc.OpenAIKey, "anthropic_key": doc.AnthropicKey, "block_mode": doc.BlockMode,
		"client_upstreams": doc.ClientUpstreams, "canary_every": doc.CanaryEvery, "webhook": doc.Webhook, "webhook_secret": doc.WebhookSecret,
	}, further{doc.Receivers, doc.Upstreams, doc.MCPServers}, nil
}

var upstreamName = regexp.MustCompile(`^[a-z0-9-]{1,40}$`)

// Shown is one line of --print-config.
type Shown struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Origin string `json:"origin"`
}

// Show lists the settings with secrets hidden.
func (c *Config) Show() []Shown {
	var out []Shown
	hide := func(v string) string {
		if v == "" {
			return ""
		}
		return "<hidden>"
	}
	for _, s := range settings {
		v := *s.field(c)
		if s.Secret {
			v = hide(v)
		}
		if s.Name == "webhook" {
			v = withoutPath(v)
		}
		out = append(out, Shown{s.Name, v, c.Origins[s.Name]})
	}
	for _, name := range slices.Sorted(maps.Keys(c.Upstreams)) {
		u := c.Upstreams[name]
		out = append(out, Shown{"upstreams." + name, u.Protocol + " " + u.URL, "file"})
		if u.Key != "" {
			out = append(out, Shown{"upstreams." + name + ".key", hide(u.Key), "file"})
		}
	}
	out = append(out, shownMCPServers(c.MCPServers)...)
	for _, name := range slices.Sorted(maps.Keys(c.Receivers)) {
		out = append(out, Shown{"receivers." + name, withoutPath(c.Receivers[name].Webhook), "file"})
	}
	return out
}

// withoutPath hides what follows a webhook's host: many hold their secret there.
func withoutPath(v string) string {
	u, err := url.Parse(v)
	if err != nil || u.Host == "" {
		return v
	}
	if u.Path == "" || u.Path == "/" {
		return u.Scheme + "://" + u.Host
	}
	return u.Scheme + "://" + u.Host + "/<hidden>"
}

// Fingerprint is the SHA-256 of the configuration as Show prints it: secrets are
// not in it, so a start entry can carry it.
func (c *Config) Fingerprint() string {
	h := sha256.New()
	for _, s := range c.Show() {
		fmt.Fprintf(h, "%s=%s\n", s.Name, s.Value)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}
