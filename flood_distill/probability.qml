<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.22" styleCategories="Symbology">
  <pipe>
    <rasterrenderer type="singlebandpseudocolor" band="1" opacity="1" alphaBand="-1" classificationMin="0" classificationMax="100" nodataColor="">
      <rastershader>
        <colorrampshader colorRampType="INTERPOLATED" classificationMode="1" clip="0" minimumValue="0" maximumValue="100" labelPrecision="0">
          <item value="0" label="0 %" color="#f7f4ea" alpha="255"/>
          <item value="25" label="25 %" color="#c9dcee" alpha="255"/>
          <item value="50" label="50 %" color="#84b3e0" alpha="255"/>
          <item value="75" label="75 %" color="#3f7fd0" alpha="255"/>
          <item value="100" label="100 %" color="#103a8c" alpha="255"/>
        </colorrampshader>
      </rastershader>
    </rasterrenderer>
  </pipe>
</qgis>
